"""Times a function on a device, in this process: a GPU through torch, or this processor."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache
from typing import Any

from perfmodel import hardware, paths
from perfmodel.checking import Time
from perfmodel.errors import InputError, NoDeviceError, one_line
from perfmodel.hardware import Gpu
from perfmodel.measure import environment, session
from perfmodel.measure.program import Program
from perfmodel.measure.stopwatch import ON_PROCESSOR as PROTOCOLS
from perfmodel.measure.stopwatch import Cpu, Cuda, Samples, steadiest

TRIES = 3
CPU = "cpu"


class Meter:
    """A device that times functions, and the card of its bounds."""

    def __init__(self, card: Gpu, watch: Cuda | Cpu) -> None:
        self.card, self._watch = card, watch

    def samples(self, run: Callable[[], Any], protocol: str) -> Samples:
        """Times a function under a protocol of ``stopwatch``. An unsteady time is measured again."""
        if protocol not in PROTOCOLS:
            raise InputError(
                "protocol", f"'{protocol}' is not measured", f"one of {', '.join(PROTOCOLS)} is accepted", "Choose one."
            )
        try:
            ready, _ = self._watch.ready(Program(run, lambda _: iter(())), protocol)
        except RuntimeError as error:
            if self._watch.name == CPU or protocol == "eager" or "captur" not in str(error):
                raise
            raise InputError(
                "the kernel", f"it cannot be captured in a CUDA graph ({one_line(str(error).partition(chr(10))[0], 120)})",
                "a function that only launches kernels is accepted", "Use protocol='eager'.",
            ) from None  # fmt: skip
        found, _ = steadiest(lambda: self._watch.times(ready, protocol), TRIES)
        self._watch.release()
        return found


def time_of(samples: Samples) -> Time:
    """Returns the median and the quartiles in seconds."""
    return Time(samples.median_us * 1e-6, samples.quantile_us(0.25) * 1e-6, samples.quantile_us(0.75) * 1e-6)


@cache
def meter(gpu: str) -> Meter:
    """Returns the device for ``auto`` (the GPU of this machine), ``cpu``, or the name or file of a card.

    Without a GPU, ``auto`` is an error: a bound of the processor is no bound of a GPU's kernel. The processor has the
    card that ``calibrate --gpu cpu`` wrote, if there is one; else its peaks are measured first, which takes seconds.
    """
    card = _described(gpu)
    if card is not None and environment.processor_name() in card.matches:
        return Meter(card, Cpu(environment.cache_byte()))
    if gpu == CPU:
        return Meter(session.processor("").card, Cpu(environment.cache_byte()))
    if environment.torch_with_gpu() is None:
        raise NoDeviceError(
            f"gpu {gpu}", "no usable GPU was found", "measuring requires a GPU, its driver and torch", "Use gpu='cpu'."
        )
    here = session.device(gpu)
    return Meter(here.card, Cuda(here.torch))


def _described(gpu: str) -> Gpu | None:
    """The card that the name stands for; None for ``auto``, and for a processor that nobody has described."""
    if gpu == "auto" or (gpu == CPU and paths.named("hardware", CPU) is None):
        return None
    return hardware.gpu(os.fspath(gpu))
