"""The device in this machine: its name, the file that describes it, and its state."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from contextlib import suppress
from datetime import date
from typing import Any, NamedTuple

from perfmodel import __version__
from perfmodel.errors import NoDeviceError, one_line
from perfmodel.hardware import Gpu, all_gpus
from perfmodel.paths import report
from perfmodel.records import METHOD, SCHEMA


class State(NamedTuple):
    """Clock of the multiprocessors, temperature and power draw. None means unknown."""

    sm_clock_mhz: int | None = None
    temperature_c: int | None = None
    power_w: float | None = None

    def fields(self, suffix: str = "") -> dict[str, Any]:
        """Returns the known values, for a record."""
        return {f"{name}{suffix}": value for name, value in self._asdict().items() if value is not None}


def torch_with_gpu() -> Any | None:
    """Returns torch if it can use a GPU, else None."""
    torch = installed_torch()
    return torch if torch is not None and torch.cuda.is_available() else None


def installed_torch() -> Any | None:
    """Returns torch, or None if it is not installed. An installed torch that cannot be imported is an error."""
    try:
        import torch
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and error.name == "torch":
            return None
        raise NoDeviceError(
            "torch", f"it is installed but cannot be imported ({type(error).__name__}: {one_line(str(error), 200)})",
            "a working torch, or none, is accepted", "Try 'python -c \"import torch\"', and repair or remove it.",
        ) from error  # fmt: skip
    return torch


def card(name: str) -> Gpu:
    """Returns the card whose file lists this device name of the driver."""
    known = [gpu for gpu in all_gpus() if name in gpu.matches]
    if len(known) == 1:
        report(known[0].name, known[0].file)
        return known[0]
    if not known:
        raise NoDeviceError(
            "--gpu auto", f"no GPU file lists the device name '{name}'", "a device name under 'matches' of a GPU file is accepted",
            "Name the folder of its file with --hardware, or name the closest card with --gpu.",
        )  # fmt: skip
    names = ", ".join(gpu.name for gpu in known)
    raise NoDeviceError(
        "--gpu auto",
        f"'{name}' is listed by several GPU files ({names})",
        "one card is accepted",
        "Name it with --gpu.",
    )


def state() -> State:
    """Reads the state from the driver. Changes no setting."""
    try:
        import pynvml
    except ImportError:
        return State()
    try:
        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByIndex(0)
        return State(
            int(pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_SM)),
            int(pynvml.nvmlDeviceGetTemperature(handle, pynvml.NVML_TEMPERATURE_GPU)),
            pynvml.nvmlDeviceGetPowerUsage(handle) / 1000,
        )
    except pynvml.NVMLError:
        return State()


def gpu_line(torch: Any) -> dict[str, Any]:
    """Returns the environment line of a measurement on this GPU."""
    properties = torch.cuda.get_device_properties(0)
    found = {
        "device": "cuda",
        "gpu": properties.name,
        "multiprocessors": properties.multi_processor_count,
        "memory_byte": properties.total_memory,
        "l2_byte": properties.L2_cache_size,
        "driver": _driver(),
        "cuda": torch.version.cuda,
        "torch": torch.__version__,
        "cudnn": torch.backends.cudnn.version(),
        "cupy": _version("cupy"),
    }
    return _line({**found, **state().fields()})


def cpu_line(library: str) -> dict[str, Any]:
    """Returns the environment line of a measurement on this processor."""
    found = {
        "device": "cpu",
        "gpu": processor_name(),
        "cores": cores(),
        "l2_byte": cache_byte(),
        library: _version(library),
    }
    return _line(found)


def _line(found: Mapping[str, Any]) -> dict[str, Any]:
    common = {
        "perfmodel": __version__,
        "method": METHOD,
        "date": date.today().isoformat(),
        "python": platform.python_version(),
    }
    return {"schema": SCHEMA, "environment": {**found, **common}}


def _driver() -> str | None:
    try:
        import pynvml

        pynvml.nvmlInit()
        return str(pynvml.nvmlSystemGetDriverVersion())
    except Exception:  # pynvml is optional and raises its own exception types
        return None


def _version(package: str) -> str | None:
    from importlib.metadata import PackageNotFoundError, packages_distributions, version

    with suppress(PackageNotFoundError):
        return version(package)
    # A distribution of another name, such as cupy-cuda12x. Reading the files of all distributions takes a second.
    for name in packages_distributions().get(package, ()):
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return None


def cores() -> int:
    """Returns the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processor_name() -> str:
    """Returns the name of the processor as the operating system reports it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine() or "this processor"


def cache_byte() -> int:
    """Returns the size of the largest cache that the operating system reports, or 32 MiB if it reports none."""
    sizes = [0]
    folder = "/sys/devices/system/cpu/cpu0/cache"
    for index in range(8):
        try:
            with open(f"{folder}/index{index}/size", encoding="ascii") as file:
                sizes.append(int(file.read().strip().rstrip("K")) * 1024)
        except (OSError, ValueError):
            continue
    return max(sizes) or 32 << 20
