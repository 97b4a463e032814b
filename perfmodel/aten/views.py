"""Operators that launch no kernel, and the rule for operators without a rule."""

from __future__ import annotations

from collections.abc import Iterable

from perfmodel.aten.calls import FLOATS, Call, Launched, Operand
from perfmodel.mixes import NOTHING
from perfmodel.op import Engine, Op, Tensor, Work, each

VIEWS = frozenset(
    ["view", "_unsafe_view", "_reshape_alias", "reshape", "as_strided", "t", "transpose", "permute", "expand", "expand_as", "squeeze", "unsqueeze", "select", "slice", "narrow", "split", "split_with_sizes", "unsafe_split", "unsafe_split_with_sizes", "chunk", "unsafe_chunk", "unbind", "detach", "detach_", "alias", "view_as", "unfold", "diagonal", "movedim", "swapaxes", "flatten", "unflatten", "lift_fresh", "lift", "swapdims", "view_as_real", "view_as_complex", "real", "imag", "_conj", "empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "resize_", "resize_as_", "set_", "is_same_size", "sym_size", "sym_stride", "sym_numel", "sym_storage_offset", "_local_scalar_dense", "item", "is_nonzero", "_assert_async", "_assert_scalar", "record_stream", "requires_grad_", "size", "stride", "numel", "dim", "result_type", "can_cast", "is_floating_point", "squeeze_", "unsqueeze_", "transpose_", "t_", "result_type", "_has_compatible_shallow_copy_type", "_version", "_to_dense", "promote_types", "broadcast_tensors", "broadcast_to", "atleast_1d", "atleast_2d", "mT", "mH", "T", "H", "adjoint", "is_pinned", "_is_zerotensor", "retain_grad"]
)  # fmt: skip


def unknown(call: Call) -> Iterable[Launched]:
    """One kernel that reads every tensor it is given and writes its results, with no arithmetic."""
    results = call.results or call.operands[:1]
    if not results or all(result.numel == 0 for result in results):
        return
    yield Launched(call.name, {"numel": results[0].numel}, moved(call.operands, results), _dtype(call), known=False)


def moved(reads: Iterable[Operand], writes: Iterable[Operand]) -> Op:
    """An operation that moves these tensors once and does nothing, timed by its bytes with a wide range."""
    tensors = (
        *(Tensor(f"in{i}", (x.distinct,), x.item, reads=1) for i, x in enumerate(reads)),
        *(Tensor(f"out{i}", (x.distinct,), x.item, writes=1) for i, x in enumerate(writes)),
    )
    return Op(tensors, (Work("move", each(NOTHING, 1), Engine.VECTOR),), None)


def _dtype(call: Call) -> str:
    """The data type of the first floating-point tensor, else fp32."""
    return next((x.dtype for x in (*call.results, *call.operands) if x.dtype in FLOATS), "fp32")
