"""Predicted against published iteration times of Megatron-LM on Selene: ``python benchmarks/megatron.py``.

Published: Korthikanti et al. 2022, "Reducing Activation Recomputation in Large Transformer Models", table 3 (models) and
table 5 (iteration times with full recomputation, and with selective recomputation and sequence parallelism). Knowledge is
``family``; no figure is fitted to these times. The kernels are those of that Megatron-LM: attention stage by stage, with
dropout, and gradients in the data type of the weights.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from perfmodel import ops, systems
from perfmodel.block import Step
from perfmodel.expression import Expression
from perfmodel.hardware import gpu
from perfmodel.importers.parts import attention, block, embed, layers, linear, mlp, norm, step
from perfmodel.plans.estimate import Estimate
from perfmodel.plans.plan import Plan
from perfmodel.plans.step import Model
from perfmodel.workload import DTYPE_ROLES, Workload

TOKENS, VOCABULARY = 2048, 51200


class Case(NamedTuple):
    """A row of table 3, and both times of table 5."""

    name: str
    heads: int
    width: int
    layers: int
    pp: int
    virtual: int
    batch: int
    microbatch: int
    full_s: float
    selective_s: float


CASES = (
    Case("22B", 64, 6144, 48, 1, 1, 4, 4, 1.42, 1.10),
    Case("175B", 96, 12288, 96, 8, 3, 64, 1, 18.13, 13.75),
    Case("530B", 128, 20480, 105, 35, 3, 280, 1, 49.05, 37.83),
    Case("1T", 160, 25600, 128, 64, 1, 512, 1, 94.42, 71.49),
)


def workload(case: Case) -> Workload:
    """The GPT of the paper: biases, learned positions, GELU, a tied output matrix, and three dropouts per layer."""
    steps = block(attention(qkv_bias=True, out_bias=True), mlp("gelu_tanh", bias=True), kind="layernorm")
    at = next(n for n, one in enumerate(steps) if one.name == "attention") + 1
    steps.insert(at, step("attention.dropout", "dropout", "x:heads y:heads", numel="B*H*N*S"))
    steps[at] = steps[at]._replace(flow={"x": "heads", "y": "dropped_probs"})
    for branch in ("attended", "fed"):
        at = next(n for n, one in enumerate(steps) if one.flow.get("b") == branch)
        steps.insert(at, step(f"{branch}.dropout", "dropout", f"x:{branch} y:{branch}", numel="B*N*D"))
    sizes = {
        "B": case.batch,
        "D": case.width,
        "H": case.heads,
        "H_kv": case.heads,
        "d": case.width // case.heads,
        "F": 4 * case.width,
        "V": VOCABULARY,
    }
    head = [norm("norm", "layernorm"), linear("logits", "D", "V", "x:normed y:logits", tied=True)]
    loss = (Step("loss", ops.find("cross_entropy"), flow={"logits": "logits"}),)
    phase = {"N": TOKENS, "S": Expression("N", "S"), "T": Expression("S", "T")}
    return Workload(
        case.name, "", f"GPT {case.name}", (), dict.fromkeys(DTYPE_ROLES, "fp16"), sizes, {"train": phase},
        (*embed(TOKENS), *layers("layers", case.layers, steps), *head), loss=loss, fused=False,
    )  # fmt: skip


def estimates(case: Case) -> tuple[Estimate, Estimate]:
    """Full recomputation, and selective recomputation with sequence parallelism."""
    card = gpu("a100-sxm4-80gb")
    model = Model(workload(case), "train", card, systems.of(card, "dgx-a100"), knowledge="family")
    plan = Plan(
        tp=8,
        pp=case.pp,
        microbatch=case.microbatch,
        virtual=case.virtual,
        schedule="interleaved" if case.virtual > 1 else "1f1b",
    )
    return (model.estimate(plan._replace(recompute="full")),
            model.estimate(plan._replace(recompute="selective", sequence_parallel=True)))  # fmt: skip


def layer_share(case: Case, **options: Any) -> float:
    """Predicted activations of one layer and one microbatch, in bytes per token and width."""
    card = gpu("a100-sxm4-80gb")
    model = Model(workload(case), "train", card, systems.of(card, "dgx-a100"))
    plan = Plan(tp=8, pp=case.pp, microbatch=case.microbatch, **options)
    held = model.rank(plan).held(plan.recompute)
    return held.layers["layers"] / (TOKENS * case.microbatch * case.width)


def memory() -> None:
    """Activations of a layer against table 2 of the paper: 34 / t with selective recomputation and sequence parallelism, 2
    with full recomputation, bytes for each of s b h.
    """
    print("| model | recomputation | table 2, s b h bytes | predicted |\n|---|---|---|---|")
    for case in CASES:
        found = layer_share(case, recompute="selective", sequence_parallel=True)
        print(f"| {case.name} | selective, sequence parallel | {34 / 8:.3f} | {found:.3f} |")
        print(f"| {case.name} | full | {2.0:.3f} | {layer_share(case, recompute='full'):.3f} |")


def main() -> None:
    errors, terms = [], []
    print(
        "| model | recomputation | published, s | predicted, s | difference | MFU | memory of a rank, GB |\n|---|---|---|---|---|---|---|"
    )
    for case in CASES:
        for name, published, found in zip(
            ("full", "selective, sequence parallel"), (case.full_s, case.selective_s), estimates(case), strict=True
        ):
            error = found.expected_s / published - 1
            errors.append(abs(error))
            print(f"| {case.name} | {name} | {published:.2f} | {found.expected_s:.2f} | {100 * error:+.1f} % | {100 * found.mfu:.1f} % "
                  f"| {found.memory_byte / 1e9:.1f} |")  # fmt: skip
            terms.append(
                f"{case.name} {name}: " + ", ".join(f"{term.name} {term.seconds:.3g} s" for term in found.terms)
            )
    print(f"\nMean {100 * sum(errors) / len(errors):.1f} %, worst {100 * max(errors):.1f} %.\n")
    print("\n".join(terms) + "\n")
    memory()


if __name__ == "__main__":
    main()
