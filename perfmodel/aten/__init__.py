"""The kernels that each operator of torch launches, with sizes from the tensors of the call.

A program and a profiler trace both name torch's operators (``aten::addmm``) with the shapes, data types and strides of
their tensors. ``launched`` turns one such call into operations of ``perfmodel ops``. Torch itself is not needed.

Rules are grouped by family, one file each. A rule is a function from a ``Call`` to the kernels that it launches; views
launch none. An operator without a rule is priced by its bytes, and every report lists it as unknown.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module

from perfmodel.aten.calls import Call, Launched, Rule
from perfmodel.aten.views import VIEWS, unknown
from perfmodel.runs import Convolution2d, Depthwise, Gemm, GroupedGemm

FAMILIES = (
    "products",
    "attention",
    "rows",
    "pointwise",
    "movement",
    "reductions",
    "images",
    "training",
    "fused",
    "communication",
)


def rules() -> dict[str, Rule]:
    """Returns the rule of every operator, by its name without namespace and overload."""
    if not _RULES:
        for family in FAMILIES:
            _RULES.update(import_module(f"perfmodel.aten.{family}").RULES)
    return _RULES


_RULES: dict[str, Rule] = {}


def launched(call: Call) -> tuple[Launched, ...]:
    """Returns the kernels that an operator launches, in order: none for a view or an empty result."""
    if call.name in VIEWS:
        return ()
    rule = rules().get(call.name) or rules().get(call.name.rstrip("_"))
    found: Iterable[Launched] = rule(call) if rule else unknown(call)
    return tuple(_precise(one, call.precision) for one in found) if call.precision else tuple(found)


def _precise(one: Launched, precision: str) -> Launched:
    """The kernel with its products of fp32 tensors in the type that the program chose."""
    chosen = one.dtype in ("fp32", "tf32") and isinstance(one.op.runs, (Gemm, GroupedGemm, Convolution2d, Depthwise))
    return one._replace(dtype=precision) if chosen else one


def is_known(name: str) -> bool:
    """Returns whether an operator has a rule or is a view."""
    return name in VIEWS or name in rules() or name.rstrip("_") in rules()
