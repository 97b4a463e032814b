"""Programs for cases, one file a family: torch's own operations and our kernels, on a GPU or on this CPU.

``build`` finds the family of a case. Inputs are random, the same for the same case.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any
from zlib import crc32

from perfmodel.cases import Case
from perfmodel.errors import InputError
from perfmodel.measure.program import Program
from perfmodel.records import key

FAMILY = {
    "matmul": "products",
    **dict.fromkeys(
        ("softmax", "softmax_backward", "layernorm", "layernorm_backward", "rmsnorm", "rmsnorm_backward"), "rows"
    ),
    "elementwise": "elementwise",
    "attention": "attention",
    "conv1d": "convolution",
    "qkv": "layers",
    "mlp": "layers",
    "layer": "layers",
}

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
    """What a program is made with: torch, the device, the case's words, its type and its random numbers."""

    def __init__(self, torch: Any, device: str, case: Case) -> None:
        self.torch, self.device, self.case = torch, device, case
        self.line: Mapping[str, Any] = case.line
        self.shape: Mapping[str, int] = case.dims
        self.dtype = getattr(torch, TORCH_TYPES[case.dtype])
        self._random = torch.Generator(device).manual_seed(crc32(key(case.line).encode()))

    def word(self, key: str, default: str) -> str:
        """A word of the case, or its default."""
        return str(self.line.get(key, default))

    @property
    def direction(self) -> str:
        return self.word("direction", "forward")

    def normal(self, *shape: int, scale: float = 1.0) -> Any:
        """Normal random numbers in the case's type."""
        made = self.torch.randn(shape, generator=self._random, device=self.device, dtype=self.torch.float32)
        return (made * scale).to(self.dtype)

    def exact_float32(self) -> Any:
        """How float32 products run: through tf32 where the case says so, and not otherwise."""
        kind = "tf32" if self.case.dtype == "tf32" else "ieee"
        if self.device == "cuda":
            self.torch.backends.cuda.matmul.fp32_precision = kind
            self.torch.backends.cudnn.conv.fp32_precision = kind

    def refuse(self, what: str, accepted: str) -> InputError:
        """The error of a case that this family cannot run."""
        return InputError(self.case.where, what, accepted, "Leave it to predict, or change the case.")


def build(torch: Any, device: str, case: Case) -> Program:
    """The program of a case, its inputs made on the device."""
    bench = Bench(torch, device, case)
    bench.exact_float32()
    family = import_module(f"perfmodel.measure.workloads.{FAMILY[str(case.line['op'])]}")
    program: Program = family.build(bench)
    return program
