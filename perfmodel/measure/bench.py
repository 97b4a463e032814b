"""Measures one case on the device: builds the program, checks its result against float64, then times it.

A program with a wrong result is reported and not timed.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from time import perf_counter, process_time
from typing import Any

from perfmodel.cases import Case, case
from perfmodel.errors import InputError, PerfmodelError, one_line
from perfmodel.measure import environment
from perfmodel.measure.kernels import launch
from perfmodel.measure.program import Program, verdict
from perfmodel.measure.stopwatch import Cpu, Cuda, steadiest
from perfmodel.ops import FAMILY_OF
from perfmodel.records import SCHEMA, case_of

NOISY = 0.1  # flag a measurement if its interquartile range exceeds this share of the median
PROBE_ELEMENTS = 1 << 26  # float32 elements of the probe on a GPU, far larger than any cache
SLOWER = 0.97  # flag a measurement as throttled if the clock drops below this share of its first value

# Memory-bound operations. Each is compared with an addition of the same bytes in the same run.
STREAMED_PROGRAMS, STREAMED_OPERATIONS = ("rows",), ("conv1d",)
STREAMED_FAMILIES = ("elementwise", "blas")


class Device:
    """A GPU through torch, or this processor through torch or NumPy. Measures one case at a time."""

    def __init__(self, name: str) -> None:
        self.watch: Cuda | Cpu
        self._streams: dict[tuple[int, str], float] = {}
        if name == "cuda":
            import torch

            self.lib, self.watch, self.line = torch, Cuda(torch), environment.gpu_line(torch)
            return
        self.lib = _processor_library()
        self.watch, self.line = Cpu(environment.cache_byte()), environment.cpu_line(self.lib.__name__)

    def measure(self, line: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the record of a case: its times, or the error."""
        described = {"schema": SCHEMA, **case_of(line)}
        try:
            return {**described, **self._measured(case(line))}
        except PerfmodelError as error:
            return {**described, "error": str(error)}
        except Exception as error:  # an error in a library must not end the other cases
            if "CUDA error" in str(error):  # the CUDA context is lost, so the process must be restarted
                raise
            return {**described, "error": one_line(f"{type(error).__name__}: {error}", 200)}
        finally:
            self.watch.release()

    def probe(self) -> dict[str, Any]:
        """Times one addition of a fixed size. Other load on the device makes it slower."""
        on_gpu = self.watch.name == "cuda"
        number = PROBE_ELEMENTS if on_gpu else environment.cache_byte()  # float32: four times the cache of a processor
        made = {"dtype": self.lib.float32, **({"device": self.watch.name} if self.lib.__name__ == "torch" else {})}
        a, b, out = (self.lib.ones(number, **made) for _ in range(3))
        run, _ = self.watch.ready(Program(lambda: self.lib.add(a, b, out=out), lambda _: iter(())), "warm")
        began = perf_counter(), process_time()
        found: dict[str, Any] = {"byte": 12 * number, **self.watch.times(run, "warm").fields()}
        if not on_gpu:
            wall_s, own_s = perf_counter() - began[0], process_time() - began[1]
            threads = self.lib.get_num_threads() if self.lib.__name__ == "torch" else 1
            found["cpu_share"] = round(own_s / (wall_s * threads), 3)
        self.watch.release()
        return found

    def program(self, read: Case) -> Program:
        """Returns the program that the case runs on this device."""
        from perfmodel.measure.workloads import build, plain, refused

        if self.lib.__name__ != "numpy":
            return build(self.lib, self.watch.name, read)
        if error := refused(read):
            raise error
        return plain.build(self.lib, read)

    def _measured(self, read: Case) -> dict[str, Any]:
        if read.protocol not in self.watch.protocols:
            raise InputError(
                f"{read.where}: protocol", f"'{read.protocol}' is not measured", f"one of {', '.join(self.watch.protocols)} is accepted",
                "Use 'perfmodel predict' for its expected time.",
            )  # fmt: skip
        program = self.program(read)
        self.watch.peak_byte()
        launch.launched.clear()
        run, out = self.watch.ready(program, read.protocol)
        peak = self.watch.peak_byte()
        found = verdict(program.compare(self._rerun(program, run, out, read.protocol)), read.dtype, self.lib)
        if found.wrong:
            finite = {"relative_norm": found.relative_norm} if isfinite(found.relative_norm) else {}
            return {"error": f"wrong result: {found.wrong}", **finite}
        before = environment.state() if self.watch.name == "cuda" else environment.State()
        samples, tries = steadiest(lambda: self.watch.times(run, read.protocol), self.watch.tries)
        after = environment.state() if self.watch.name == "cuda" else environment.State()
        fields: dict[str, Any] = {**samples.fields(), "relative_norm": float(f"{found.relative_norm:.3g}")}
        if tries > 1:
            fields["tries"] = tries
        if peak:
            fields["peak_byte"] = peak
        fields |= after.fields()
        if launch.launched:
            fields["kernels"] = [one._asdict() for one in launch.footprints()]
        if flags := _flags(samples.spread, before, after):
            fields["flags"] = flags
        if self.watch.name == "cuda" and streamed(read.op):
            del program, run, out
            fields["stream_us"] = self._stream_us(read)
        return fields

    def _rerun(self, program: Program, run: Any, out: Any, protocol: str) -> Any:
        """Returns the outputs of one more run. A graph writes to the same memory each time, so its outputs are filled
        with NaN first: an element that is not written is then found.
        """
        if self.watch.name == "cpu" or protocol == "eager":
            return program.run()
        for tensor in out if isinstance(out, tuple) else (out,):
            if tensor.is_floating_point() and tensor.dtype.itemsize > 1:
                tensor.detach().fill_(float("nan"))
        run()
        self.watch.synchronize()
        return out

    def _stream_us(self, read: Case) -> float:
        """Returns the time in microseconds of an elementwise addition with the compulsory bytes of the case, under the
        same protocol.
        """
        moved = int(sum(step_byte(read)))
        at = (moved, read.protocol)
        if at not in self._streams:
            torch = self.lib
            a, b = (torch.randn(max(1, moved // 6), device="cuda", dtype=torch.float16) for _ in range(2))
            run, _ = self.watch.ready(Program(lambda: torch.add(a, b), lambda out: iter(())), read.protocol)
            self._streams[at] = round(self.watch.times(run, read.protocol).median_us, 3)
        return self._streams[at]


def streamed(op: str) -> bool:
    """Whether an operation is memory-bound, and compared with a stream."""
    from perfmodel.measure.workloads import FAMILY

    return FAMILY.get(op) in STREAMED_PROGRAMS or op in STREAMED_OPERATIONS or FAMILY_OF.get(op) in STREAMED_FAMILIES


def step_byte(read: Case) -> list[int]:
    """Returns the compulsory bytes of each kernel of a case."""
    from perfmodel import block

    kernels = block.kernels(read.steps, read.dims, fused=True, backward=read.backward)
    return [kernel.repeat * kernel.op.compulsory_byte() for kernel in kernels if read.forward or not kernel.forward]


def _flags(spread: float, before: environment.State, after: environment.State) -> list[str]:
    """Returns warnings about the quality of a measurement."""
    found = []
    if spread > NOISY:
        found.append(f"noisy: interquartile range is {spread:.0%} of the median")
    if before.sm_clock_mhz and after.sm_clock_mhz and after.sm_clock_mhz < SLOWER * before.sm_clock_mhz:
        found.append(f"throttled: clock fell from {before.sm_clock_mhz} to {after.sm_clock_mhz} MHz")
    return found


def _processor_library() -> Any:
    """Returns torch, or NumPy if torch is not installed."""
    torch = environment.installed_torch()
    if torch is None:
        import numpy

        return numpy
    torch.set_num_threads(environment.cores())
    return torch
