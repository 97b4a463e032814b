"""A plan as data: how a workload is divided over GPUs, and the rules that make a plan legal.

A group of ``tp`` ranks divides the matrices of each layer, and ``pp`` stages divide the layers. ``cp`` ranks divide the
tokens of each sequence, and ``dp`` replicas divide the batch. ``ep`` of the replicas divide the experts. Ranks are
numbered as Megatron-LM numbers them: tp varies fastest, then cp, dp and pp, so that tensor parallelism stays in a node.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from perfmodel.errors import InputError

GPIPE, ONE_F_ONE_B, INTERLEAVED, ZERO_BUBBLE = "gpipe", "1f1b", "interleaved", "zero-bubble"
SCHEDULES = (GPIPE, ONE_F_ONE_B, INTERLEAVED, ZERO_BUBBLE)


class Plan(NamedTuple):
    """Degrees of parallelism and the options of a step.

    ``microbatch``: sequences of one microbatch of one replica, 0 for the default: 1 in training, the whole batch of a
    replica otherwise. ``virtual``: chunks of layers per stage. ``zero``: stage of ZeRO or FSDP.
    """

    tp: int = 1
    pp: int = 1
    dp: int = 1
    ep: int = 1
    cp: int = 1
    sequence_parallel: bool = False
    zero: int = 0
    microbatch: int = 0
    schedule: str = ONE_F_ONE_B
    virtual: int = 1
    recompute: str = "none"
    optimizer: str = "adam"

    @property
    def gpus(self) -> int:
        return self.tp * self.pp * self.dp * self.cp

    @property
    def words(self) -> str:
        """The plan as text: the degrees above 1, and the options that differ from the defaults."""
        degrees = [
            f"{name} {getattr(self, name)}" for name in ("tp", "cp", "pp", "dp", "ep") if getattr(self, name) > 1
        ]
        options = [
            *(["sequence parallel"] if self.sequence_parallel else []),
            *([f"ZeRO {self.zero}"] if self.zero else []),
            *([f"microbatch {self.microbatch}"] if self.microbatch else []),
            *([self.schedule if self.virtual == 1 else f"{self.schedule} x{self.virtual}"] if self.pp > 1 else []),
            *([f"recompute {self.recompute}"] if self.recompute != "none" else []),
        ]
        return ", ".join([*degrees, *options]) or "1 GPU"


class Shape(NamedTuple):
    """The properties of a workload that the rules use: sequences, tokens, heads, experts and layers.

    ``groups``: key-value heads. ``latent``: attention keeps a latent vector instead of keys and values.
    """

    batch: int
    tokens: int
    heads: int
    experts: int
    layers: int
    width: int
    train: bool
    decode: bool
    latent: bool = False
    groups: int = 0


def divides(tp: int, shape: Shape) -> bool:
    """Whether heads divide evenly over a tensor-parallel group, with each key-value head whole or copied."""
    if not shape.heads:
        return shape.width % tp == 0
    return shape.heads % tp == 0 and (not shape.groups or shape.groups % tp == 0 or tp % shape.groups == 0)


def with_microbatch(plan: Plan, shape: Shape) -> Plan:
    """The plan with the default microbatch in the place of 0."""
    if plan.microbatch:
        return plan
    return plan._replace(microbatch=1 if shape.train else max(1, shape.batch // plan.dp))


def problem(plan: Plan, shape: Shape) -> tuple[str, str, str]:
    """What makes a plan illegal: what was found, what is accepted, what to do. Empty texts for a legal plan."""
    rules = (
        (shape.batch % plan.dp, f"dp {plan.dp} does not divide the batch B = {shape.batch}",
         "data-parallel replicas process equal shares of the batch", "Change --dp or --set B."),
        (plan.tp > (shape.heads or shape.width), f"tp {plan.tp} exceeds the {shape.heads or shape.width} heads",
         "each rank of a tensor-parallel group needs one head", "Choose a smaller --tp."),
        (plan.pp > max(1, shape.layers), f"pp {plan.pp} exceeds the {shape.layers} layers",
         "each stage needs one layer", "Choose a smaller --pp."),
        (plan.ep > 1 and not shape.experts, f"ep {plan.ep} is given for a model without experts",
         "a mixture of experts is accepted", "Remove --ep."),
        (shape.experts and shape.experts % plan.ep, f"ep {plan.ep} does not divide the {shape.experts} experts",
         "each rank holds as many experts as every other", "Change --ep."),
        (plan.dp % plan.ep, f"ep {plan.ep} does not divide dp {plan.dp}",
         "experts are divided over data-parallel replicas", "Change --ep or --dp."),
        (plan.cp > 1 and shape.decode, f"cp {plan.cp} is given for decoding",
         "context parallelism divides the tokens of prompts and training", "Remove --cp."),
        (plan.cp > 1 and (not shape.heads or shape.latent), f"cp {plan.cp} is given for a model without keys and values of its own",
         "context parallelism passes keys and values around a ring", "Remove --cp."),
        (shape.tokens % (2 * plan.cp) if plan.cp > 1 else 0, f"2 x cp {plan.cp} does not divide the {shape.tokens:,} tokens",
         "each rank holds two chunks of equal length", "Change --cp or --set N."),
        (plan.sequence_parallel and plan.tp == 1, "sequence parallelism is given without tensor parallelism",
         "it divides tokens over the tensor-parallel group", "Add --tp."),
        (plan.sequence_parallel and shape.tokens // plan.cp % plan.tp, f"tp {plan.tp} does not divide the {shape.tokens // plan.cp:,} tokens of a rank",
         "sequence parallelism divides them evenly", "Change --tp, or remove --sequence-parallel."),
        (plan.virtual > 1 and plan.schedule != INTERLEAVED, f"{plan.virtual} chunks per stage are given with schedule {plan.schedule}",
         "the interleaved schedule has several chunks", "Choose --schedule interleaved."),
        (plan.schedule == INTERLEAVED and (plan.pp == 1 or plan.virtual < 2), "the interleaved schedule needs several stages and chunks",
         "--pp and --virtual of at least 2 are accepted", "Add them, or choose --schedule 1f1b."),
        (plan.virtual > 1 and shape.layers % (plan.pp * plan.virtual), f"pp {plan.pp} x {plan.virtual} chunks do not divide the {shape.layers} layers",
         "chunks have equal numbers of layers", "Change --virtual or --pp."),
        (not shape.train and plan.zero in (1, 2), f"ZeRO stage {plan.zero} is given without training",
         "0, or 3 for sharded weights, is accepted", "Choose --phase train."),
        (not shape.train and plan.recompute != "none", "recomputation is given without training",
         "none is accepted", "Choose --phase train."),
        (not shape.train and plan.virtual > 1, "interleaving is given without training",
         "--virtual 1 is accepted", "Choose --phase train."),
        (plan.zero >= 2 and plan.pp > 1 and shape.train, f"ZeRO stage {plan.zero} is given with a pipeline",
         "stages 0 and 1 are accepted: each microbatch would reduce its gradients", "Choose --zero 1 or --pp 1."),
    )  # fmt: skip
    found = next((rule[1:] for rule in rules if rule[0]), None)
    return found or _microbatches(plan, shape)


def _microbatches(plan: Plan, shape: Shape) -> tuple[str, str, str]:
    own = shape.batch // plan.dp
    if own % plan.microbatch:
        return (f"microbatches of {plan.microbatch} do not divide the {own} sequences of a replica",
                "microbatches of equal size are accepted", "Change --microbatch.")  # fmt: skip
    if plan.schedule == INTERLEAVED and own // plan.microbatch % plan.pp:
        return (f"{own // plan.microbatch} microbatches are no multiple of pp {plan.pp}",
                "the interleaved schedule runs groups of pp microbatches", "Change --microbatch or --set B.")  # fmt: skip
    return "", "", ""


def checked(plan: Plan, shape: Shape, where: str) -> Plan:
    """The plan with its microbatch. Raises InputError where it is not legal."""
    plan = with_microbatch(plan, shape)
    found = problem(plan, shape)
    if found[0]:
        raise InputError(where, *found)
    return plan


def shape_of(dims: Mapping[str, Any], layers: int, phase: str, latent: bool) -> Shape:
    """Returns the properties of a workload at these sizes that the rules use."""
    return Shape(
        batch=dims.get("B", 1),
        tokens=dims.get("N", 1),
        heads=dims.get("H", 0),
        experts=dims.get("E", 0),
        layers=layers,
        width=dims.get("F", dims.get("D", 1)),
        train=phase == "train",
        decode=phase == "decode",
        latent=latent,
        groups=dims.get("H_kv", 0),
    )
