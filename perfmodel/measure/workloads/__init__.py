"""Programs that run cases, one file per family: operations of torch and kernels of this package, on a GPU or CPU.

Inputs are random, with a seed that depends only on the case.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any
from zlib import crc32

from perfmodel.cases import Case
from perfmodel.errors import InputError
from perfmodel.measure.program import Program
from perfmodel.measure.workloads.elementwise import FUNCTIONS
from perfmodel.ops import FAMILIES
from perfmodel.records import key
from perfmodel.units import ITEM_BYTES
from perfmodel.vocabulary import COLLECTIVES
from perfmodel.workload import ROLES

FAMILY = {
    **dict.fromkeys(("matmul", "gemm"), "products"),
    **dict.fromkeys(
        (
            "softmax",
            "softmax_backward",
            "masked_softmax",
            "masked_softmax_backward",
            "layernorm",
            "layernorm_backward",
            "rmsnorm",
            "rmsnorm_backward",
        ),
        "rows",
    ),
    **dict.fromkeys(FUNCTIONS, "elementwise"),
    **dict.fromkeys(("attention", "multi_head_attention", "cross_attention", "attention_decode"), "attention"),
    **dict.fromkeys(("conv1d", "conv1d_backward"), "convolution"),
    **dict.fromkeys(
        (
            "copy",
            "concatenate",
            "fill",
            "where",
            "masked_fill",
            "compare",
            "integer",
            "random",
            "add_bias",
            "causal_mask",
        ),
        "movement",
    ),
    **dict.fromkeys(("gather", "scatter", "scatter_add", "embedding_backward"), "indexing"),
    **dict.fromkeys(("reduce_sum", "reduce_max", "argmax", "cumulative_sum", "top_k", "sort"), "reductions"),
    **dict.fromkeys((*FAMILIES["images"].split(), *FAMILIES["windows"].split()), "images"),
    **dict.fromkeys(FAMILIES["channels"].split(), "channels"),
    **dict.fromkeys(
        (
            "log_softmax",
            "log_softmax_backward",
            "nll_loss",
            "nll_loss_backward",
            "adam_step",
            "sgd_step",
            "foreach",
            "gradient_norm",
        ),
        "training",
    ),
    **dict.fromkeys(("linear", "linear_bias", "output_projection", "logits", "qkv", "mlp", "layer"), "layers"),
    **dict.fromkeys(
        (
            "linear_int4",
            "linear_int8",
            "linear_mxfp4",
            "linear_nvfp4",
            "linear_fp8",
            "quantise_static",
            "quantise_tensor",
            "quantise_token",
            "quantise_block",
            "expert_linear",
        ),
        "quantised",
    ),
    **dict.fromkeys(("mla_attention", "mla_latent_attention"), "latent"),
}

# Operations whose weights the rotating protocol replaces.
ROTATED = ("matmul", "gemm", *(op for op, family in FAMILY.items() if family == "layers"))

# Item sizes that may differ from those of the data type, by operation: those of results, and masks of one byte.
OWN_ITEMS = {
    **dict.fromkeys(("copy", "reduce_sum", "log_softmax"), ("out",)),
    **dict.fromkeys(("where", "masked_fill"), ("mask",)),
}
MASK_BYTE = 1

TORCH_TYPES = {
    "fp16": "float16",
    "bf16": "bfloat16",
    "fp32": "float32",
    "tf32": "float32",
    "fp64": "float64",
    "fp8": "float8_e4m3fn",
    "int8": "int8",
}


class Bench:
    """Context in which a program is built: torch, device, case, data type and random numbers."""

    def __init__(self, torch: Any, device: str, case: Case) -> None:
        self.torch, self.device, self.case = torch, device, case
        self.shape: Mapping[str, int] = case.dims
        self.dtype = getattr(torch, TORCH_TYPES[case.dtype])
        self._random = torch.Generator(device).manual_seed(crc32(key(case.line).encode()))

    @property
    def op(self) -> str:
        return self.case.op

    @property
    def impl(self) -> str:
        return self.case.words.get("impl", "")

    @property
    def direction(self) -> str:
        return self.case.words.get("direction", "forward")

    @property
    def causal(self) -> bool:
        return bool(self.case.dims["causal"])

    def normal(self, *shape: int, scale: float = 1.0) -> Any:
        """Returns normally distributed numbers in the data type of the case."""
        made = self.torch.randn(shape, generator=self._random, device=self.device, dtype=self.torch.float32)
        return (made * scale).to(self.dtype)

    def indices(self, number: int, below: int) -> Any:
        """Returns random indices, which may repeat."""
        return self.torch.randint(below, (number,), generator=self._random, device=self.device)

    def permutation(self, number: int) -> Any:
        """Returns all indices below a number in random order."""
        return self.torch.randperm(number, generator=self._random, device=self.device)

    def mask(self, number: int) -> Any:
        """Returns random booleans."""
        return self.torch.rand(number, generator=self._random, device=self.device) < 0.5

    def type_of(self, symbol: str) -> Any:
        """Returns the data type of a result with that item size: the case's own, float32 or float64, else bfloat16."""
        item = self.shape.get(symbol, self.dtype.itemsize)
        wide = {4: self.torch.float32, 8: self.torch.float64, 2: self.torch.bfloat16}
        if item != self.dtype.itemsize and item not in wide:
            raise self.refuse(f"{symbol} of {item} bytes", "2, 4 and 8 bytes are accepted")
        return self.dtype if item == self.dtype.itemsize else wide[item]

    def exact_float32(self) -> Any:
        """Sets the precision of float32 products: tf32 for a tf32 case, else float32."""
        kind = "tf32" if self.case.dtype == "tf32" else "ieee"
        if self.device == "cuda":
            self.torch.backends.cuda.matmul.fp32_precision = kind
            self.torch.backends.cudnn.conv.fp32_precision = kind

    def refuse(self, what: str, accepted: str) -> InputError:
        """Returns the error for a case that this family cannot run."""
        return InputError(self.case.where, what, accepted, "Use 'perfmodel predict' for it, or change the case.")


def refused(case: Case) -> InputError | None:
    """Returns the reason why a case has no program on any device, or None if it has one."""
    if case.op in COLLECTIVES:
        return InputError(
            case.where, f"one process cannot measure {case.op}", "one process per GPU is required",
            "Run 'torchrun --nproc_per_node 2 -m perfmodel validate --suite FILE'.",
        )  # fmt: skip
    if "weights" in case.line:
        return InputError(
            f"{case.where}: weights", "no program stores the weights of another operation in a format",
            "linear_int4 and other operations with quantised weights are accepted", "Choose one of them.",
        )  # fmt: skip
    if case.op not in FAMILY:
        return InputError(
            case.where, f"no program measures {case.op}", f"{', '.join(FAMILY)} are accepted",
            "Use 'perfmodel predict' for it.",
        )  # fmt: skip
    if "window" in case.line or case.dims.get("W") is not None:
        return InputError(
            case.where,
            "no program has an attention window",
            "attention over all keys is accepted",
            "Remove the window.",
        )
    if case.dtype not in TORCH_TYPES:
        return InputError(
            f"{case.where}: dtype", f"no program runs in {case.dtype}", f"{', '.join(TORCH_TYPES)} are accepted",
            "Use 'perfmodel predict' for it.",
        )  # fmt: skip
    if case.protocol == "rotating" and (case.op not in ROTATED or case.words.get("direction", "forward") != "forward"):
        return InputError(
            f"{case.where}: protocol", "no run of this case replaces its weights",
            f"the forward pass of {', '.join(ROTATED)} is accepted", "Choose another protocol.",
        )  # fmt: skip
    if case.line.get("torch") is not None:
        return InputError(
            f"{case.where}: torch",
            f"version {case.line['torch']} is requested",
            "the installed version is measured",
            "Remove the key.",
        )
    items, own = {ITEM_BYTES[case.dtype]}, OWN_ITEMS.get(case.op, ())
    if "mask" in own and case.dims["mask"] != MASK_BYTE:
        return InputError(
            case.where,
            f"a mask of {case.dims['mask']} bytes per element",
            "1 byte is accepted",
            'Add "mask": 1 to shape.',
        )
    if {case.dims[symbol] for symbol in ROLES if symbol not in own} != items:
        return InputError(
            case.where, "no program mixes data types", "one data type is accepted",
            "Use 'perfmodel predict' for it.",
        )  # fmt: skip
    return None


def build(torch: Any, device: str, case: Case) -> Program:
    """Returns the program of a case, with its inputs on the device."""
    if error := refused(case):
        raise error
    bench = Bench(torch, device, case)
    bench.exact_float32()
    program: Program = import_module(f"perfmodel.measure.workloads.{FAMILY[case.op]}").build(bench)
    return program
