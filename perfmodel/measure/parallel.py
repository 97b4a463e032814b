"""The suite ``parallel`` of steps that ranks run together, and the measurement of each case."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any

from perfmodel.errors import InputError
from perfmodel.measure.collectives import Call
from perfmodel.measure.layers import Kernels, Width, compiled_kernels, plain_kernels
from perfmodel.measure.pipeline import Pipeline
from perfmodel.measure.ranked import Measurable
from perfmodel.measure.ranks import TORCH_TYPES, Ranks
from perfmodel.measure.tensor_parallel import Layers
from perfmodel.measure.training import Builder, Training
from perfmodel.patterns import KINDS
from perfmodel.plans.plan import GPIPE, ONE_F_ONE_B
from perfmodel.step_cases import LAYERS, TRANSFORMERS, StepCase, step_case

Line = dict[str, Any]

LAYER = "llama-2-7b-layer"
WIDTHS = (
    {"D": 4096, "H": 32, "H_kv": 32, "F": 11008},  # Llama-2-7B
    {"D": 8192, "H": 64, "H_kv": 8, "F": 28672},  # Llama-3-70B
)
PROMPTS = ((1, 512), (1, 2048), (1, 8192), (8, 512))  # B, N
TOKENS = tuple((B, S) for B in (1, 16, 64) for S in (2048, 8192))
MODELS = (("gpt2", 1024, (8, 16)), ("tinyllama-1.1b", 512, (4, 8)), ("tinyllama-1.1b", 1024, (4, 8)))
STACK = {"N": 2048, "L": 8}
MICROBATCHES = (4, 8)
SMALL = {"D": 256, "H": 8, "H_kv": 4, "F": 512}  # on a CPU


def suite(ranks: int, *, cuda: bool) -> list[Line]:
    """Returns tensor-parallel layers, data-parallel training and pipelines, each on one GPU and over all ranks."""
    if not cuda:
        return [*_layers((SMALL,), ((2, 64),), ((2, 128),), ranks, "fp32", "eager"), *_few(ranks)]
    return [
        *_layers(WIDTHS, PROMPTS, TOKENS, ranks, "bf16", "warm"),
        *_trained(MODELS, ranks, "bf16"),
        *_pipelines({**WIDTHS[0], **STACK}, ranks, "bf16"),
    ]


def _few(ranks: int) -> Iterator[Line]:
    """Yields training steps for a CPU."""
    yield from _trained((("smollm2-135m", 32, (1,)),), ranks, "fp32", L=1)
    yield from _pipelines({**SMALL, "N": 64, "L": ranks}, ranks, "fp32")


def _line(config: str, phase: str, shape: Line, plan: Line, **words: str) -> Line:
    return {"op": "step", "config": config, "phase": phase, "shape": shape, **({"plan": plan} if plan else {}), **words}


def _layers(
    widths: tuple[Line, ...], prompts: tuple[tuple[int, int], ...], tokens: tuple[tuple[int, int], ...], ranks: int, dtype: str,
    protocol: str,
) -> Iterator[Line]:  # fmt: skip
    """Yields layers of each width, on one rank and divided over all of them."""
    words = {"dtype": dtype, "impl": LAYERS, "protocol": protocol}
    for width in widths:
        for plan in ({}, {"tp": ranks}):
            for B, N in prompts:
                yield _line(LAYER, "prefill", {"B": B, "N": N, **width}, plan, **words)
            for B, S in tokens:
                yield _line(LAYER, "decode", {"B": B, "S": S, **width}, plan, **words)


def _trained(
    models: tuple[tuple[str, int, tuple[int, ...]], ...], ranks: int, dtype: str, **more: int
) -> Iterator[Line]:
    """Yields training on one rank and on all of them, with the same batch (strong scaling) and the same per rank (weak)."""
    words = {"dtype": dtype, "impl": TRANSFORMERS, "protocol": "eager"}
    for config, N, batches in models:
        for B in batches:
            yield _line(config, "train", {"B": B, "N": N, **more}, {}, **words)
        strong = {B for B in batches if B % ranks == 0}
        for B in sorted(strong | {B * ranks for B in batches}):
            for zero in (0, 3):
                yield _line(config, "train", {"B": B, "N": N, **more}, {"dp": ranks, "zero": zero}, **words)


def _pipelines(shape: Line, ranks: int, dtype: str) -> Iterator[Line]:
    """Yields a stack of layers with microbatches of one sequence, on one rank and with each schedule over all of them."""
    words = {"dtype": dtype, "impl": LAYERS, "protocol": "eager"}
    own = {"microbatch": 1, "optimizer": "none"}
    for m in MICROBATCHES:
        for plan in ({}, *({"pp": ranks, "schedule": name} for name in (ONE_F_ONE_B, GPIPE))):
            if shape["L"] % ranks == 0:
                yield _line(LAYER, "train", {"B": m, **shape}, {**plan, **own}, **words)


def maker(build: Builder) -> Callable[[Ranks, Mapping[str, Any]], Measurable]:
    """Returns the function that makes a case on a rank. ``build`` builds a model of transformers."""

    def make(ranks: Ranks, line: Mapping[str, Any]) -> Measurable:
        if line["op"] in KINDS:
            return Call(ranks, line)
        case = step_case(line)
        if case.impl == TRANSFORMERS:
            return Training(ranks, case, build)
        width = Width(*(int(case.workload.dims(case.phase, case.sizes)[name]) for name in Width._fields))
        made = Pipeline if case.phase == "train" else Layers
        return made(ranks, case, width, _kernels(ranks.torch, ranks.cuda))

    return make


@cache
def _kernels(torch: Any, cuda: bool) -> Kernels:
    return compiled_kernels(torch) if cuda else plain_kernels(torch)


def refused(case: StepCase, ranks: int) -> InputError | None:
    """Returns the reason why these ranks do not measure a step, or None if they do."""
    plan, train = case.plan, case.phase == "train"
    usual = case.plan._replace(tp=1, pp=1, dp=1, zero=0, microbatch=0, schedule=ONE_F_ONE_B, optimizer="adam")
    own = {TRANSFORMERS: ("dp",), LAYERS: ("pp",) if train else ("tp",)}[case.impl]
    parts = [
        (plan.gpus not in (1, ranks), f"the plan has {plan.gpus} GPUs", f"plans of 1 GPU and of {ranks} are accepted"),
        (case.impl == TRANSFORMERS and not train, f"phase {case.phase} of transformers", "train is accepted"),
        (case.impl == TRANSFORMERS and plan.zero not in (0, 3), f"zero {plan.zero}", "0 (DDP) and 3 (FSDP2) are accepted"),
        (case.impl == LAYERS and case.config != LAYER, f"config {case.config} of layers", f"{LAYER} is accepted"),
        (case.dtype not in TORCH_TYPES, f"dtype {case.dtype}", f"{', '.join(TORCH_TYPES)} are accepted"),
        (train and case.impl == LAYERS and case.protocol != "eager", "a warm training step", "eager is accepted"),
        (usual != type(plan)() or any(getattr(plan, name) > 1 for name in ("tp", "pp", "dp") if name not in own),
         f"plan {plan.words}", f"{own[0]} is accepted in phase {case.phase} of {case.impl}"),
    ]  # fmt: skip
    parts += _of_layers(case) if case.impl == LAYERS else []
    found = next((part[1:] for part in parts if part[0]), None)
    return found and InputError(case.where, f"{found[0]} cannot be measured", found[1], "Change the line.")


def _of_layers(case: StepCase) -> list[tuple[bool, str, str]]:
    """Returns requirements of layers: whether each is violated, what was found, and what is accepted."""
    plan, shape = case.plan, case.shape
    if case.phase != "train":
        missing = [name for name in ("N" if case.phase == "prefill" else "S",) if name not in shape]
        heads = case.workload.dims(case.phase, case.sizes)
        uneven = any(heads[name] % plan.tp for name in ("H", "H_kv", "F"))
        return [
            (bool(missing), f"a shape without {''.join(missing)}", "it is required"),
            ("L" in shape, "L in a prompt or a decoding step", "one layer is accepted"),
            (uneven, f"tp {plan.tp}", "a divisor of H, H_kv and F is accepted"),
        ]
    missing = [name for name in ("B", "N", "L") if name not in shape]
    divided = bool(missing) or not (shape["L"] % plan.pp or shape["B"] % (plan.microbatch or 1))
    return [
        (bool(missing), f"a shape without {', '.join(missing)}", "B, N and L are required"),
        (not divided, "a stack with unequal stages or microbatches", "divisors of L and B are accepted"),
    ]
