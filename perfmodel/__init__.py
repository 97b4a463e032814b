"""perfmodel: FLOPs, bytes, bounds and times of Transformer operations and the models built of them.

    import perfmodel
    answer = perfmodel.analyse("llama-2-7b-layer", gpu="a100", phase="decode")
    print(answer.total.traffic_byte, answer.total.lower_s)

Nothing is loaded before it is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from perfmodel.api import (
        analyse,
        bounds,
        compare,
        crossings,
        find,
        formula,
        gpu,
        load,
        memory,
        predict,
        sweep_over,
        trace,
    )
    from perfmodel.capture import Dim, Spec, capture, ids
    from perfmodel.errors import InputError, NoDeviceError, PerfmodelError, UsageError, ValidationError
    from perfmodel.kernels import kernel
    from perfmodel.planning import divide, plan, scale, serve
    from perfmodel.utilisation import mfu, occupancy

__version__ = "0.1.0"  # the one place: the package's metadata, --version and the library read it here

_ERRORS = ("InputError", "NoDeviceError", "PerfmodelError", "UsageError", "ValidationError")
# The modules of names that are not functions of ``api``.
_MODULES = {
    **dict.fromkeys(_ERRORS, "errors"),
    **dict.fromkeys(("mfu", "occupancy"), "utilisation"),
    "kernel": "kernels",
    **dict.fromkeys(("divide", "plan", "scale", "serve"), "planning"),
    **dict.fromkeys(("capture", "Dim", "Spec", "ids"), "capture"),
}

__all__ = [
    "Dim",
    "InputError",
    "NoDeviceError",
    "PerfmodelError",
    "Spec",
    "UsageError",
    "ValidationError",
    "analyse",
    "bounds",
    "capture",
    "compare",
    "crossings",
    "divide",
    "find",
    "formula",
    "gpu",
    "ids",
    "kernel",
    "load",
    "memory",
    "mfu",
    "occupancy",
    "plan",
    "predict",
    "scale",
    "serve",
    "sweep_over",
    "trace",
]


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name not in __all__:
        raise AttributeError(f"module 'perfmodel' has no attribute '{name}'")
    return getattr(import_module(f"perfmodel.{_MODULES.get(name, 'api')}"), name)


def __dir__() -> list[str]:
    return __all__
