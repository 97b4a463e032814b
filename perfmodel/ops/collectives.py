"""Collectives: p ranks, one GPU each, exchange tensors over links.

The cost is that of the links: a rank that takes s steps and sends b bytes needs at least s latencies and b divided by
the rate of its links. A ring all-reduce of n bytes cuts the tensor into p parts. In p - 1 steps every rank passes one
part to the next, which adds its own; in p - 1 more steps the sums go round. Each rank sends 2 (p - 1) parts of n / p
bytes: 2 n (p - 1) / p, never more than 2 n, and no algorithm without the help of switches sends less. A tree takes
2 log p steps. One-shot takes one step and sends n to each of the others; two-shot sends a part to each, twice. In the
network the switches add: n out and n back.

Counts are those of one rank. Memory traffic is the tensor that the rank gives and the one that it gets, once each; bytes
on the links are not memory traffic. A rank's own part never leaves it, so one rank alone sends nothing.
"""

from __future__ import annotations

from perfmodel import patterns
from perfmodel.arithmetic import Size, exact_div
from perfmodel.mixes import NOTHING
from perfmodel.op import ADD, Engine, Mix, Op, Tensor, Work, each
from perfmodel.operation import Example, Valid, operation
from perfmodel.runs import Collective

SUM = Mix(ADD)
RING = "Patarasuk and Yuan 2009, 'Bandwidth optimal all-reduce algorithms for clusters of workstations'"
COSTS = "Thakur, Rabenseifner and Gropp 2005, 'Optimization of collective communication operations in MPICH'"
NCCL = "NVIDIA NCCL documentation, 'Collective Operations'"
TREES = "Sanders, Speck and Träff 2009, 'Two-tree algorithms for full bandwidth broadcast, reduction and scan'"
SHARP = "Klenk et al. 2020, 'An in-network architecture for accelerating shared-memory multiprocessor collectives'"
ITEMS = Valid("byte % act == 0", "a tensor holds whole elements")
PARTS = Valid("byte % (act * gpus) == 0", "each rank gets an equal part of whole elements")
AT = {"byte": 24, "gpus": 3}


def _op(kind: str, algorithm: str, byte: Size, gpus: Size, act: Size, out: Size, chosen: bool = True) -> Op:
    """The rank's tensors, its share of the additions, and the fact."""
    fact = Collective(kind, byte, gpus, act, algorithm, chosen)
    added = patterns.of_rank(fact.messages().added, gpus)
    moves = kind not in (patterns.ALL_REDUCE, patterns.REDUCE_SCATTER) or algorithm == patterns.IN_NETWORK
    work = Work("move", each(NOTHING, byte), Engine.VECTOR) if moves else Work("add", each(SUM, added), Engine.VECTOR)
    tensors = (Tensor("x", (byte,), 1, reads=1), Tensor("y", (out,), 1, writes=1))
    return Op(tensors, (work,), runs=fact)


@operation(
    summary="each rank gets the sum of the tensors of all ranks, by a ring",
    example=Example(
        at=AT, flops=8, traffic=48,
        because="12 elements in 3 parts of 4: 2 x 4 = 8 additions; 24 bytes read and 24 written; sent: 4 steps of 8 bytes",
    ),
    sources=(RING, COSTS, NCCL),
    valid=(ITEMS,),
)  # fmt: skip
def all_reduce(byte: Size, gpus: Size, act: Size = 2) -> Op:
    """A reduce-scatter followed by an all-gather. Libraries choose among the algorithms by size; the counts here are
    the ring's.
    """
    return _op(patterns.ALL_REDUCE, patterns.RING, byte, gpus, act, byte)


@operation(
    summary="all-reduce by a binary tree: up to the root and down again",
    example=Example(
        at=AT, flops=8, traffic=48,
        because="2 tensors of 12 elements are added, 24 additions for 3 ranks, so 8 for each; 24 bytes read and 24 written",
    ),
    sources=(TREES, COSTS),
    valid=(ITEMS,),
)  # fmt: skip
def all_reduce_tree(byte: Size, gpus: Size, act: Size = 2) -> Op:
    """The same bytes as the ring on average, in 2 log p steps. Two trees, each for half of the data, in which the leaves
    of one are inner ranks of the other, share the load: no rank sends more than 2 n.
    """
    return _op(patterns.ALL_REDUCE, patterns.TREE, byte, gpus, act, byte, chosen=False)


@operation(
    summary="all-reduce in one step: every rank gets all tensors and adds them",
    example=Example(
        at=AT, flops=24, traffic=48,
        because="2 other tensors x 12 elements = 24 additions; 24 bytes read and 24 written; sent: 2 x 24 = 48 bytes",
    ),
    sources=(COSTS,),
    valid=(ITEMS,),
)  # fmt: skip
def all_reduce_one_shot(byte: Size, gpus: Size, act: Size = 2) -> Op:
    """The fewest steps and the most bytes: for tensors of some kilobytes on links that join all ranks."""
    return _op(patterns.ALL_REDUCE, patterns.ONE_SHOT, byte, gpus, act, byte, chosen=False)


@operation(
    summary="all-reduce in two steps: every rank adds one part and sends it to all",
    example=Example(
        at=AT, flops=8, traffic=48,
        because="2 other ranks x 4 elements = 8 additions; 24 bytes read and 24 written; sent: 2 parts of 8 bytes, twice",
    ),
    sources=(COSTS,),
    valid=(ITEMS,),
)  # fmt: skip
def all_reduce_two_shot(byte: Size, gpus: Size, act: Size = 2) -> Op:
    """A direct reduce-scatter and a direct all-gather: the bytes of the ring in two steps."""
    return _op(patterns.ALL_REDUCE, patterns.TWO_SHOT, byte, gpus, act, byte, chosen=False)


@operation(
    summary="all-reduce in the network: the switches add (NVLink SHARP)",
    example=Example(
        at=AT, flops=0, traffic=48,
        because="no addition on the GPU; 24 bytes read and 24 written; sent: 24 bytes to the switches, 24 back",
    ),
    sources=(SHARP, NCCL),
    valid=(ITEMS,),
)  # fmt: skip
def all_reduce_in_network(byte: Size, gpus: Size, act: Size = 2) -> Op:
    """Each rank sends its tensor once and receives the sum once: half of the ring's bytes for many ranks."""
    return _op(patterns.ALL_REDUCE, patterns.IN_NETWORK, byte, gpus, act, byte, chosen=False)


@operation(
    summary="each rank gets its part of the sum of the tensors of all ranks, by a ring",
    example=Example(
        at=AT, flops=8, traffic=32,
        because="2 parts x 4 elements = 8 additions; 24 bytes read and 8 written; sent: 2 steps of 8 bytes",
    ),
    sources=(RING, COSTS, NCCL),
    valid=(PARTS,),
)  # fmt: skip
def reduce_scatter(byte: Size, gpus: Size, act: Size = 2) -> Op:
    """Each rank gives the whole tensor and gets 1/p of the sum. It sends (p - 1) / p of the tensor."""
    return _op(patterns.REDUCE_SCATTER, patterns.RING, byte, gpus, act, exact_div(byte, gpus))


@operation(
    summary="each rank gets the tensors of all ranks, by a ring",
    example=Example(
        at=AT, flops=0, traffic=96,
        because="no addition; 24 bytes read and 3 x 24 = 72 written; sent: 2 steps of 24 bytes",
    ),
    sources=(COSTS, NCCL),
    valid=(ITEMS,),
)  # fmt: skip
def all_gather(byte: Size, gpus: Size, act: Size = 2) -> Op:
    """``byte`` is the tensor that a rank gives; the one that it gets is p times as large."""
    return _op(patterns.ALL_GATHER, patterns.RING, byte, gpus, act, byte * gpus)


@operation(
    summary="each rank sends another part of its tensor to each rank",
    example=Example(
        at=AT, flops=0, traffic=48,
        because="no addition; 24 bytes read and 24 written; sent: 2 parts of 8 bytes, one to each other rank",
    ),
    sources=(COSTS, NCCL),
    valid=(PARTS,),
)  # fmt: skip
def all_to_all(byte: Size, gpus: Size, act: Size = 2) -> Op:
    """A transposition of parts: rank i gets part i of every tensor. Experts on several GPUs exchange tokens with it."""
    return _op(patterns.ALL_TO_ALL, patterns.DIRECT, byte, gpus, act, byte)


@operation(
    summary="each rank gets the tensor of one rank, by a chain",
    example=Example(
        at=AT, flops=0, traffic=48,
        because="no addition; 24 bytes read and 24 written; 2 ranks send 24 bytes each, and the last one none",
    ),
    sources=(COSTS, NCCL),
    valid=(ITEMS,),
)  # fmt: skip
def broadcast(byte: Size, gpus: Size, act: Size = 2) -> Op:
    """The tensor passes from rank to rank in small pieces, so that all links are busy at once."""
    return _op(patterns.BROADCAST, patterns.RING, byte, gpus, act, byte)


@operation(
    summary="each rank sends its tensor to the next rank and receives one",
    example=Example(
        at=AT, flops=0, traffic=48,
        because="no addition; 24 bytes read and 24 written; sent: 24 bytes to one rank",
    ),
    sources=(NCCL,),
    valid=(ITEMS,),
)  # fmt: skip
def send_recv(byte: Size, gpus: Size, act: Size = 2) -> Op:
    """The stages of a pipeline pass activations on with it. Links carry both directions at once, so a message in one
    direction takes as long.
    """
    return _op(patterns.SEND_RECV, patterns.DIRECT, byte, gpus, act, byte)
