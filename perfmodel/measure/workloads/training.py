"""The loss as eager code runs it, fused optimizer steps and multi-tensor kernels, by torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from perfmodel.measure.program import Pairs, Program
from perfmodel.measure.workloads import Bench

ROWS_CHECKED = 256
MOST_CHECKED = 1 << 22
RATE, FIRST, SECOND, DECAY, TINY, STEP = 1e-2, 0.9, 0.999, 0.1, 1e-8, 5
TOTAL = 2  # torch's number for a sum over rows


def build(bench: Bench) -> Program:
    """The program of the operation that the case names."""
    return (_loss if "rows" in bench.shape else _update)(bench)


def _loss(bench: Bench) -> Program:
    torch, rows, cols = bench.torch, bench.shape["rows"], bench.shape["cols"]
    x = bench.normal(rows, cols)
    part = slice(None, None, max(1, rows // ROWS_CHECKED))
    aten = torch.ops.aten
    if bench.op == "log_softmax":
        dtype = bench.type_of("out")

        def logarithms(out: Any) -> Pairs:
            wide = x[part].double()
            shifted = wide - wide.amax(1, keepdim=True)
            yield "the logarithms", out[part], shifted - shifted.exp().sum(1, keepdim=True).log()

        return Program(lambda: torch.log_softmax(x, 1, dtype=dtype), logarithms)
    y = torch.log_softmax(x, 1)
    if bench.op == "log_softmax_backward":
        dy = bench.normal(rows, cols)

        def gradient(out: Any) -> Pairs:
            g = dy[part].double()
            yield "the gradient", out[part], g - y[part].double().exp() * g.sum(1, keepdim=True)

        return Program(lambda: aten._log_softmax_backward_data(dy, y, 1, x.dtype), gradient)
    targets = bench.indices(rows, below=cols)
    if bench.op == "nll_loss":

        def loss(out: Any) -> Pairs:
            yield "the loss", out[0].view(1), -y.gather(1, targets[:, None]).double().sum().view(1)

        return Program(lambda: aten.nll_loss_forward(y, targets, None, TOTAL, -100), loss)
    one = torch.ones((), device=bench.device, dtype=y.dtype)
    _, weight = aten.nll_loss_forward(y, targets, None, TOTAL, -100)

    def sparse(out: Any) -> Pairs:
        wanted = torch.zeros(targets[part].shape[0], cols, device=bench.device).double()
        yield "the gradient", out[part], wanted.scatter_(1, targets[part][:, None], -1.0)

    return Program(lambda: aten.nll_loss_backward(one, y, targets, None, TOTAL, -100, weight), sparse)


def _lists(bench: Bench, number: int) -> list[list[Any]]:
    """Lists of tensors that together have the parameters, of nearly equal sizes."""
    params, tensors = bench.shape["params"], bench.shape["tensors"]
    small, rest = divmod(params, tensors)
    return [[bench.normal(small + (i < rest)) for i in range(tensors)] for _ in range(number)]


def _update(bench: Bench) -> Program:
    return {"adam_step": _adam, "sgd_step": _sgd, "foreach": _foreach, "gradient_norm": _norm}[bench.op](bench)


def _adam(bench: Bench) -> Program:
    """The tensors change in every run. The comparison starts the first of them anew and takes one step."""
    torch = bench.torch
    if bench.shape.get("state", bench.dtype.itemsize) != bench.dtype.itemsize:
        raise bench.refuse("moments in another data type than the weights", "state equal to the weights is accepted")
    weights, gradients, means, variances = _lists(bench, 4)
    for tensor in variances:
        tensor.abs_()
    steps = [torch.full((), STEP - 1.0, device=bench.device) for _ in weights]
    options = {
        "lr": RATE, "beta1": FIRST, "beta2": SECOND, "weight_decay": DECAY, "eps": TINY, "amsgrad": False, "maximize": False
    }  # fmt: skip

    def run() -> Any:
        torch._fused_adamw_(weights, gradients, means, variances, [], steps, **options)
        return ()

    def compare(out: Any) -> Pairs:
        for step in steps:
            step.fill_(float(STEP))
        w, g, m, v = (tensor[:MOST_CHECKED] for tensor in (weights[0], gradients[0], means[0], variances[0]))
        before = [tensor.double() for tensor in (w, g, m, v)]
        run()
        start, slope, mean, variance = before
        mean = FIRST * mean + (1 - FIRST) * slope
        variance = SECOND * variance + (1 - SECOND) * slope**2
        root = (variance / (1 - SECOND**STEP)).sqrt() + TINY
        yield "the mean", m, mean
        yield "the weights", w, start - RATE * DECAY * start - RATE / (1 - FIRST**STEP) * mean / root

    return Program(run, compare)


def _sgd(bench: Bench) -> Program:
    torch = bench.torch
    weights, gradients, momenta = _lists(bench, 3)
    options = {
        "weight_decay": 0.0, "momentum": FIRST, "lr": RATE, "dampening": 0.0, "nesterov": False, "maximize": False,
        "is_first_step": False,
    }  # fmt: skip

    def run() -> Any:
        torch._fused_sgd_(weights, gradients, momenta, **options)
        return ()

    def compare(out: Any) -> Pairs:
        w, g, m = (tensor[:MOST_CHECKED] for tensor in (weights[0], gradients[0], momenta[0]))
        start, slope, momentum = (tensor.double() for tensor in (w, g, m))
        run()
        momentum = FIRST * momentum + slope
        yield "the momentum", m, momentum
        yield "the weights", w, start - RATE * momentum

    return Program(run, compare)


def _foreach(bench: Bench) -> Program:
    """A product with a number, a sum of two lists, or a product of two lists added to a third."""
    torch, reads = bench.torch, bench.shape["reads"]
    if reads > 3:
        raise bench.refuse(f"{reads} lists are read", "1 to 3 lists are accepted")
    lists = _lists(bench, reads)
    run: Callable[[], Any] = {
        1: lambda: torch._foreach_mul(lists[0], 0.5),
        2: lambda: torch._foreach_add(*lists),
        3: lambda: torch._foreach_addcmul(*lists),
    }[reads]

    def compare(out: Any) -> Pairs:
        first, *others = (tensors[-1].double() for tensors in lists)
        wanted = first / 2 if reads == 1 else first + (others[0] if reads == 2 else others[0] * others[1])
        yield "the last tensor", out[-1], wanted

    return Program(lambda: tuple(run()), compare)


def _norm(bench: Bench) -> Program:
    torch = bench.torch
    (gradients,) = _lists(bench, 1)

    def compare(out: Any) -> Pairs:
        yield "the last norm", out[-1].view(1), (gradients[-1].double() ** 2).sum().sqrt().view(1)

    return Program(lambda: tuple(torch._foreach_norm(gradients, 2)), compare)
