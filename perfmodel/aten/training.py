"""Losses, optimizers over many tensors, gradient clipping and random numbers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from perfmodel.arithmetic import product
from perfmodel.aten.asking import arithmetic_type, asked, result_of
from perfmodel.aten.calls import FLOATS, Call, Launched, Operand, Rule
from perfmodel.runs import Update


def _scores(x: Operand) -> tuple[Any, Any]:
    """Rows and classes of scores (rows, classes, pixels...)."""
    if len(x.shape) < 2:
        return 1, x.numel
    return x.shape[0] * product(x.shape[2:]), x.shape[1]


def nll_loss(call: Call) -> Iterable[Launched]:
    """nll_loss_forward(x, target, ...): one element of every row."""
    x, target = call.operands[:2]
    rows, cols = _scores(x)
    yield asked("nll_loss", x.dtype, rows=rows, cols=cols, act=x.item, index=target.item)


def nll_loss_backward(call: Call) -> Iterable[Launched]:
    """nll_loss_backward(dy, x, target, ...): cleared rows with one element each."""
    x, target = call.operands[1:3]
    rows, cols = _scores(x)
    yield asked("nll_loss_backward", x.dtype, rows=rows, cols=cols, act=x.item, index=target.item)


def _list(call: Call, place: int) -> tuple[Operand, ...]:
    """The tensors of a list argument."""
    value = call.argument(place)
    if isinstance(value, Operand):
        return (value,)
    return tuple(x for x in value or () if isinstance(x, Operand)) if isinstance(value, (tuple, list)) else ()


def _total(tensors: Iterable[Operand]) -> Any:
    count: Any = 0
    for x in tensors:
        count = count + x.numel
    return count


def _sized(found: Launched, tensors: Iterable[Operand], **facts: Any) -> Launched:
    """The kernel with the sizes of its tensors, where they are numbers, and more facts."""
    sizes = tuple(x.numel for x in tensors)
    fact = found.op.runs
    if not isinstance(fact, Update) or not all(isinstance(size, int) and size for size in sizes):
        return found
    return found._replace(op=found.op._replace(runs=fact._replace(sizes=sizes, **facts)))


def adam(call: Call) -> Iterable[Launched]:
    """_fused_adam(w)_(weights, gradients, means, variances, ...)."""
    weights, states = _list(call, 0), _list(call, 2)
    if not weights:
        return
    state = states[0].item if states else weights[0].item
    found = asked(
        "adam_step", arithmetic_type(weights), params=_total(weights), tensors=len(weights), weight=weights[0].item, state=state
    )  # fmt: skip
    yield _sized(found, weights)


def sgd(call: Call) -> Iterable[Launched]:
    """_fused_sgd_(weights, gradients, momenta, ...)."""
    weights = _list(call, 0)
    if weights:
        found = asked(
            "sgd_step", arithmetic_type(weights), params=_total(weights), tensors=len(weights), weight=weights[0].item
        )
        yield _sized(found, weights)


def foreach(call: Call) -> Iterable[Launched]:
    """_foreach_*: one elementwise function of lists of tensors."""
    lists = [found for found in (_list(call, place) for place in range(len(call.arguments))) if found]
    if not lists:
        return
    first = lists[0]
    params, dtype = _total(first), arithmetic_type(first)
    if isinstance(params, int) and params == 0:
        return
    if call.name.startswith("_foreach_norm"):
        found = asked("gradient_norm", dtype, params=params, tensors=len(first), act=first[0].item)
        yield _sized(found, first)
        return
    if call.name in ("_foreach_zero_", "_foreach_zero"):
        yield asked("fill", dtype, numel=params, act=first[0].item)
        return
    like = sum(len(one) == len(first) and one[0].numel == first[0].numel for one in lists)
    reads = like - (call.name in ("_foreach_copy_", "_foreach_copy"))  # the first list is only written
    found = asked("foreach", dtype, params=params, tensors=len(first), reads=reads, act=first[0].item)
    yield _sized(found, first, lists=like + (not call.name.endswith("_")))


def random(call: Call) -> Iterable[Launched]:
    """Random numbers in a tensor."""
    target = result_of(call) if call.results or call.operands else None
    if target is None or (isinstance(target.numel, int) and target.numel == 0):
        return
    dtype = target.dtype if target.dtype in FLOATS else "fp32"
    yield asked("random", dtype, numel=target.numel, act=target.item)


FOREACH = (
    "add", "sub", "mul", "div", "addcmul", "addcdiv", "sqrt", "rsqrt", "neg", "exp", "reciprocal", "lerp", "norm", "maximum", "minimum", "clamp_min", "clamp_max", "zero", "copy", "abs", "pow", "sign", "log", "floor", "ceil", "round", "max",
)  # fmt: skip
RANDOM = (
    "bernoulli", "bernoulli_", "rand", "randn", "randint", "rand_like", "randn_like", "randint_like", "uniform", "uniform_", "normal", "normal_", "random_", "random", "exponential_", "exponential", "multinomial", "randperm", "log_normal_", "cauchy_", "geometric_",
)  # fmt: skip
RULES: dict[str, Rule] = {
    **dict.fromkeys(("nll_loss_forward", "nll_loss", "nll_loss2d_forward"), nll_loss),
    **dict.fromkeys(("nll_loss_backward", "nll_loss2d_backward"), nll_loss_backward),
    **dict.fromkeys(("_fused_adamw_", "_fused_adam_", "_fused_adamw", "_fused_adam", "_fused_adagrad_"), adam),
    "_fused_sgd_": sgd,
    **{f"_foreach_{name}": foreach for name in FOREACH},
    **{f"_foreach_{name}_": foreach for name in FOREACH},
    "_amp_foreach_non_finite_check_and_unscale_": foreach,
    **dict.fromkeys(RANDOM, random),
}
