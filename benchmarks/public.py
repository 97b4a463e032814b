"""Public measurements of kernels, read as cases of ``perfmodel predict``.

The folder is not part of the project. It has the tables of NeuSight (sitar-lab/NeuSight 6945927), aiconfigurator
(ai-dynamo/aiconfigurator 095f58a), Vidur (microsoft/vidur 7d47513) and DeepBench (baidu-research/DeepBench da81ba7). Tables of
aiconfigurator need pandas and pyarrow, those of DeepBench also openpyxl; without them they are skipped.
"""

from __future__ import annotations

import csv
import gzip
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from hashlib import sha256
from math import inf
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import modules
from modules import FEW_ROWS, LATENT, SERVED, Found

from perfmodel import block, eager
from perfmodel.block import Kernel
from perfmodel.cases import Case, case
from perfmodel.hardware import gpu
from perfmodel.roofline import lower_under, rates
from perfmodel.runs import GroupedGemm, number
from perfmodel.timing.card import Card
from perfmodel.timing.expectation import Expected
from perfmodel.timing.sequence import expected
from perfmodel.units import ITEM_BYTES

AT_MOST = 400  # cases per operation and card, drawn with a fixed seed
ROWS = 8000  # of a table that are read, drawn with a fixed seed


class Measurement(NamedTuple):
    """A public measurement: kernels one after another, each a case of ``perfmodel predict``."""

    card: str
    group: str
    lines: tuple[dict[str, Any], ...]
    measured_s: float
    copies: int = 1  # copies of the weights, used in rotation
    source: str = ""
    impl: str = ""  # where it differs from the implementation of the first line
    even: bool = False  # every expert got the same number of rows
    constant: bool = False  # all operands were constants

    @property
    def line(self) -> dict[str, Any]:
        return self.lines[0]

    @property
    def held_out(self) -> bool:
        """Whether the shape is in the half that no figure is fitted to. The routing of experts does not decide."""
        sizes = [{name: size for name, size in line["shape"].items() if name != "routing"} for line in self.lines]
        shapes = json.dumps(sizes, sort_keys=True)
        return bool(sha256(shapes.encode()).digest()[0] % 2)


class Prepared(NamedTuple):
    """A measurement with its kernels and their bounds, to be timed on cards of several parameters."""

    one: Measurement
    case: Case
    kernels: tuple[tuple[Kernel, float], ...]

    @classmethod
    def of(cls, one: Measurement) -> Prepared:
        read = [case(line) for line in one.lines]
        card = rates(gpu(one.card), read[0].dtype)
        kernels = [(kernel, own) for own in read for kernel in _launched(own)]
        # NB the bound of even rows is that of random choices: the source's rows are nearly even, not more.
        found = [
            (evenly(kernel) if one.even else kernel, lower_under(kernel.op, card, own.protocol).lower_s)
            for kernel, own in kernels
        ]
        return cls(one, read[0], tuple(found))

    @property
    def lower_s(self) -> float:
        return sum(lower_s * int(kernel.repeat) for kernel, lower_s in self.kernels)

    def expected(self, card: Card) -> Expected:
        """The expected time on a card."""
        if self.one.source in ROTATED:
            card = card._replace(warm_s=card.graph_s)  # a graph of several runs
        if self.one.copies > 1:
            card = rotating(card, self.one.line, self.one.copies)
        card = card._replace(before=True) if self.case.older_rows else card
        card = card._replace(held_flop_per_s=card.peak_flop_per_s) if self.one.constant else card
        impl = self.one.impl or self.case.words.get("impl", "")
        return expected(card, self.kernels, self.case.dtype, impl=impl, protocol=self.case.protocol)[1]


def _launched(read: Case) -> tuple[Kernel, ...]:
    running = block.kernels(read.steps, read.dims, fused=read.fused, backward=read.backward)
    return tuple(
        k for k in eager.launched(running, read.words.get("impl", ""), read.dtype) if read.forward or not k.forward
    )


def evenly(kernel: Kernel) -> Kernel:
    """The kernel of experts with as many distinct ones as rows allow. Operations state those of random choices."""
    fact = kernel.op.runs
    if not isinstance(fact, GroupedGemm) or fact.routed is None:
        return kernel
    groups = min(int(fact.routed.E), number(fact.rows))
    fact = fact._replace(groups=groups, routed=fact.routed._replace(balanced=True))
    read = (groups * number(fact.k) * number(fact.n),)
    tensors = (t._replace(shape=read) if t.name == "distinct experts" else t for t in kernel.op.tensors)
    return kernel._replace(op=kernel.op._replace(tensors=tuple(tensors), runs=fact))


def rotating(card: Card, line: Mapping[str, Any], copies: int) -> Card:
    """Returns the card for a product that rotates several copies of its weights, with the share of L2 that remains for
    one.
    """
    shape, item = line["shape"], ITEM_BYTES[line["dtype"]]
    weight = item * shape["k"] * shape["n"]
    if weight > card.gpu.caches["l2"].value:
        return card
    working = weight + item * shape["m"] * (shape["k"] + shape["n"])
    return card._replace(l2_byte=card.l2_byte * working / (working + (copies - 1) * weight))


ELEMENTWISE = {
    "add": "add",
    "addu": "scale",
    "mul": "mul",
    "mulu": "scale",
    "div": "div",
    "divu": "scale",
    "relu": "relu",
    "gelu": "gelu",
    "tanh": "tanh",
}
NEUSIGHT_CARDS = {"Tesla_T4": "t4", "Tesla_V100-PCIE-32GB": "v100-pcie-32gb", "NVIDIA_A100-PCIE-40GB": "a100-pcie-40gb"}
# Cards and stacks that read a paged cache with FlashAttention-2 or, TRT-LLM on Ampere, with its own kernel of that generation. All
# others are "serving".
PAGED = (("a100_sxm", "vllm"), ("a100_sxm", "trtllm"), ("l40s", "vllm"))
# TRT-LLM decoding on the A100: half of its records over 0.5 GB are faster than the data-sheet bandwidth allows.
IMPOSSIBLE = ("a100_sxm", "trtllm", "attention")
# Copies of the weights that each stack's benchmark rotates. The hit rate is that of all copies together.
ROTATED = {"vllm": 6, "sglang": 6, "trtllm": 5}
# How a stack's products quantise their left operand. vLLM's products with block scales are launched by the host.
SCALES = {
    ("fp8", "vllm"): "static_scale", ("fp8", "sglang"): "token_scale", ("fp8", "trtllm"): "tensor_scale",
    ("fp8_block", "sglang"): "block_scale", ("fp8_block", "trtllm"): "block_scale",
}  # fmt: skip
LAYERS = "matmul fp16, layers"
SHORTEST_S = 20e-6  # shorter times are too coarse, because the data are in whole microseconds
SERVING_CARDS = {
    "a100_sxm": "a100-sxm4-80gb", "h100_sxm": "h100-sxm5-80gb", "l40s": "l40s", "b200_sxm": "b200-sxm-180gb",
}  # fmt: skip


def neusight(folder: Path) -> Iterator[Measurement]:
    """Single calls in fp32, timed with events around each call, including the launch by the host."""
    for path in sorted(folder.glob("neusight/train/*/*.csv.gz")):
        op, card = path.parent.name, NEUSIGHT_CARDS.get(path.name.removesuffix(".csv.gz"))
        if card is None:
            continue
        with gzip.open(path, "rt") as file:
            for row in csv.DictReader(file):
                line = _neusight_case(
                    op, {key: int(float(row[key])) for key in ("B", "M", "N", "K", "H") if row.get(key)}
                )
                if line is not None:
                    yield Measurement(
                        card, f"{line['op']} {line['dtype']}", (line,), float(row["Latency"]) * 1e-3, 1, "neusight"
                    )


def _neusight_case(op: str, size: dict[str, int]) -> dict[str, Any] | None:
    common = {"dtype": "fp32", "protocol": "eager", "impl": "torch", "torch": "2.1"}
    if op == "bmm":
        return {"op": "matmul", "shape": {"batch": size["B"], "m": size["M"], "k": size["N"], "n": size["K"]}, **common}
    if op == "linear":
        return {"op": "matmul", "shape": {"m": size["B"] * size["M"], "k": size["N"], "n": size["K"]}, **common}
    if op in ("softmax", "ln"):
        return {"op": {"ln": "layernorm"}.get(op, op), "shape": {"rows": size["B"], "cols": size["H"]}, **common}
    if op in ELEMENTWISE:
        return {"op": "elementwise", "kind": ELEMENTWISE[op], "shape": {"numel": size["B"] * size["H"]}, **common}
    return None


def serving(folder: Path) -> Iterator[Measurement]:
    """Products, attention and experts of serving stacks, replayed as graphs with a warm cache."""
    pandas = _pandas("the tables of serving stacks")
    for path in sorted(folder.glob("aiconfigurator/*/*/*/*/*.parquet")) if pandas else ():
        at, kind, stack = path.relative_to(folder).parts[1:4]
        reader = READERS.get(path.name)
        if reader is None or ((at, stack, kind) == IMPOSSIBLE and path.name.startswith("generation")):
            continue
        table = pandas.read_parquet(path)
        for row in table.sample(min(len(table), ROWS), random_state=1).to_dict("records"):
            found = reader(path.name, row, at, stack)
            if found is not None:
                copies = ROTATED[stack] if found.lines[0]["op"] == "matmul" else 1
                impl = "serving" if found.group.startswith(LATENT) else ""
                yield Measurement(
                    SERVING_CARDS[at], found.group, found.lines, float(row["latency"]) * 1e-3, copies, stack, impl,
                    found.even, found.constant,
                )  # fmt: skip


def _pandas(what: str) -> Any:
    try:
        import pandas
    except ImportError:
        print(f"(pandas and pyarrow are not installed: {what} are skipped)", file=sys.stderr)
        return None
    return pandas


def layers(folder: Path) -> Iterator[Measurement]:
    """Products of layers of language models in fp16 on an A100, times of kernels alone. Nothing was fitted to them."""
    for path in sorted(folder.glob("vidur/compute/a100/*/*/mlp.csv.gz")):
        with gzip.open(path, "rt") as file:
            for row in csv.DictReader(file):
                D, F, ranks = (int(row[key]) for key in ("n_embd", "n_expanded_embd", "num_tensor_parallel_workers"))
                heads = int(row["n_head"]) + 2 * int(row["n_kv_head"])
                gated = 2 if row["use_gated_mlp"] == "True" else 1
                for name, k, n in (
                    ("attn_pre_proj", D, D // int(row["n_head"]) * heads // ranks),
                    ("attn_post_proj", D // ranks, D),
                    ("mlp_up_proj", D, gated * F // ranks),
                    ("mlp_down_proj", F // ranks, D),
                ):
                    measured_s = float(row[f"time_stats.{name}.median"] or 0.0) * 1e-3
                    shape = {"m": int(row["num_tokens"]), "k": k, "n": n}
                    line = {"op": "matmul", "shape": shape, "dtype": "fp16", "impl": "torch", "protocol": "cold"}
                    if measured_s >= SHORTEST_S:
                        yield Measurement("a100-sxm4-80gb", LAYERS, (line,), measured_s, 1, "vidur")


# Products with quantised weights, one scale for each column.
WEIGHT_ONLY = {"int4_wo": "linear_int4", "int8_wo": "linear_int8"}


def _product_case(name: str, row: Mapping[str, Any], at: str, stack: str) -> Found | None:
    shape = {key: int(row[key]) for key in ("m", "k", "n")}
    if row["gemm_dtype"] == "bfloat16":
        return Found("matmul bf16", ({"op": "matmul", "shape": shape, "dtype": "bf16", "impl": "torch", **SERVED},))
    if row["gemm_dtype"] in WEIGHT_ONLY:
        # NB the engine of TRT-LLM takes 4 us that its kernels do not: 8 us for products of 128 x 128.
        op, more = WEIGHT_ONLY[row["gemm_dtype"]], {"group": shape["k"]} if row["gemm_dtype"] == "int4_wo" else {}
        sizes = {"B": 1, "N": shape["m"], "D_in": shape["k"], "D_out": shape["n"], **more}
        line = {"op": op, "shape": sizes, "dtype": "fp16", "impl": "serving", "protocol": "rotating"}
        return Found(f"{op} fp16", (line,))
    impl = SCALES.get((row["gemm_dtype"], stack))
    if impl is None:
        return None
    return Found(f"matmul fp8, {impl}", ({"op": "matmul", "shape": shape, "dtype": "fp8", "impl": impl, **SERVED},))


def _attention_case(name: str, row: Mapping[str, Any], at: str, stack: str) -> Found | None:
    decode = name.startswith("generation")
    if row["attn_dtype"] != "bfloat16" or row["kv_cache_dtype"] != "bfloat16" or (not decode and row["step"]):
        return None
    if row.get("window_size") not in (None, 0, -1):
        return None
    N = 1 if decode else int(row["isl"])
    H = int(row["num_heads"])
    shape = {
        "B": int(row["batch_size"]), "H": H, "H_kv": int(row["num_key_value_heads"]) or H, "N": N,
        "S": int(row["step"]) + 1 if decode else N, "d": int(row["head_dim"]),
    }  # fmt: skip
    impl = "paged" if (at, stack) in PAGED else "serving"
    line = {"op": "attention", "shape": shape, "dtype": "bf16", "impl": impl, "causal": not decode, **SERVED}
    return Found(f"attention {'decode' if decode else 'prompt'} bf16", (line,))


READERS = {
    "gemm_perf.parquet": _product_case,
    "context_attention_perf.parquet": _attention_case,
    "generation_attention_perf.parquet": _attention_case,
    "moe_perf.parquet": modules.experts,
    "mla_context_module_perf.parquet": modules.latent,
    "mla_generation_module_perf.parquet": modules.latent,
}
DEEPBENCH = {"Results FP32": "fp32", "Results - FP16 ip, Mixed math": "fp16"}


def deepbench(folder: Path) -> Iterator[Measurement]:
    """Products of a T4, launched one after another."""
    path, pandas = folder / "deepbench/train_DeepBench_NV_T4.xlsx", _pandas("the tables of DeepBench")
    if pandas is None or not path.is_file():
        return
    try:
        sheets = pandas.read_excel(path, sheet_name=list(DEEPBENCH), header=None)
    except ImportError:
        print("(openpyxl is not installed: the tables of DeepBench are skipped)", file=sys.stderr)
        return
    for name, sheet in sheets.items():
        inside = False
        for first, _, *sizes, _, _, _, milliseconds in sheet.iloc[:, :9].itertuples(index=False):
            inside = "Dense Matrix" in first if isinstance(first, str) else inside
            if inside and all(isinstance(size, int) for size in sizes) and isinstance(milliseconds, (int, float)):
                m, n, k = sizes
                dtype = DEEPBENCH[name]
                line = {"op": "matmul", "shape": {"m": m, "k": k, "n": n}, "dtype": dtype, "impl": "torch", **SERVED}
                if 0 < milliseconds < inf:
                    yield Measurement(
                        "t4", f"matmul {dtype}, DeepBench", (line,), milliseconds * 1e-3, source="deepbench"
                    )


def drawn(found: Iterable[Measurement]) -> list[Measurement]:
    """Draws at most ``AT_MOST`` measurements per card and group."""
    groups: dict[tuple[str, str], list[Measurement]] = {}
    for one in found:
        groups.setdefault((one.card, one.group), []).append(one)
    random = Random(1)
    return [
        one for group in groups.values() for one in (group if len(group) <= AT_MOST else random.sample(group, AT_MOST))
    ]


def measurements(folder: Path) -> list[Measurement]:
    """All public measurements of a folder, as many of each card and group as ``drawn`` leaves."""
    found = [*neusight(folder), *serving(folder), *layers(folder), *deepbench(folder)]
    # Kinds that were added later are drawn last, so that the draws of the others stay as they were.
    return drawn(sorted(found, key=lambda one: (one.group == FEW_ROWS, one.line["op"] in WEIGHT_ONLY.values())))
