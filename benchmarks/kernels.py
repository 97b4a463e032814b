"""Times our CUDA kernels against torch and the stream, over the shapes of the tables in README.md. Needs a GPU.

python benchmarks/kernels.py [conv1d softmax softmax_backward layernorm layernorm_backward rmsnorm small types]
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from perfmodel.measure import kernels, stopwatch
from perfmodel.measure.program import Program

NAMES = ("conv1d", "softmax", "softmax_backward", "layernorm", "layernorm_backward", "rmsnorm", "small", "types")
SAMPLES = 31
CHECKED = 48  # rows compared with float64
ELEMENTS = 1 << 27
BOUND = {"float16": 1e-3, "bfloat16": 8e-3, "float32": 1e-5}
LARGE_BYTE = 100e6

try:
    import cupy
    import torch
    from torch.nn import functional
except ImportError as error:
    sys.exit(f"benchmarks/kernels.py: {error.name} is not installed; torch, CuPy and a CUDA device are needed.")
if not torch.cuda.is_available():
    sys.exit("benchmarks/kernels.py: torch finds no CUDA device; one is needed.")

stopwatch.FEWEST = SAMPLES
watch = stopwatch.Cuda(torch)


def microseconds(run: Callable[[], Any], protocol: str = "cold") -> float:
    """Returns the median time of a replayed graph."""
    replay, _ = watch.ready(Program(run, lambda _: iter(())), protocol)
    found = watch.times(replay, protocol).median_us
    watch.release()
    return found


streams: dict[tuple[int, str], float] = {}


def stream(byte: int, protocol: str = "cold") -> float:
    """Returns the time of torch's addition with the same total bytes: two reads and one write."""
    if (byte, protocol) not in streams:
        a, b = (torch.randn(byte // 6, device="cuda").half() for _ in range(2))
        out = torch.empty_like(a)
        streams[byte, protocol] = microseconds(lambda: torch.add(a, b, out=out), protocol)
    return streams[byte, protocol]


def far(found: Any, wanted: Any) -> float:
    """Returns the relative norm of the error, or infinity if a value is not finite."""
    found = found.double()
    return float((found - wanted).norm() / wanted.norm()) if bool(found.isfinite().all()) else float("inf")


def row(
    name: str, shape: str, dtype: str, byte: int, ours: Any, theirs: Any, error: float, protocol: str = "cold"
) -> float:
    """Prints a line of the table and returns the share of the stream."""
    mine, ceiling = microseconds(ours, protocol), stream(byte, protocol)
    other = f"{microseconds(theirs, protocol):.1f} us" if theirs else "-"
    wrong = "" if error < BOUND[dtype] else f"  WRONG BY {error:.1e}"
    kind = "" if dtype == "float16" else f", {dtype}"
    warm = "" if protocol == "cold" else ", warm"
    share = 100 * ceiling / mine
    print(
        f"| {name} | {shape}{kind}{warm} | {mine:.1f} us | {other} | {ceiling:.1f} us | {share:.0f} % |{wrong}",
        flush=True,
    )
    return share


def conv1d(
    B: int, N: int, D: int, K: int, dtype: str = "float16", *, beside: bool = True, protocol: str = "cold"
) -> float:
    kind = getattr(torch, dtype)
    u, b = torch.randn(B, N, D, device="cuda", dtype=kind), torch.randn(D, device="cuda", dtype=kind)
    f = torch.randn(D, K, device="cuda", dtype=kind) / K
    padded = functional.pad(u[:, :, :CHECKED].double().transpose(1, 2), (K - 1, 0))
    wanted = functional.conv1d(
        padded, f[:CHECKED].double().unsqueeze(1), b[:CHECKED].double(), groups=min(D, CHECKED)
    ).transpose(1, 2)
    error = far(kernels.conv1d(u, f, b)[:, :, :CHECKED], wanted)
    del padded, wanted

    def theirs() -> Any:
        out = functional.conv1d(u.transpose(1, 2), f.unsqueeze(1), b, padding=K - 1, groups=D)[..., :N]
        return out.transpose(1, 2).contiguous()

    shape, byte = f"({B}, {N}, {D}), K {K}", 2 * u.numel() * u.element_size()
    return row(
        "conv1d", shape, dtype, byte, lambda: kernels.conv1d(u, f, b), theirs if beside else None, error, protocol
    )


def softmax(rows: int, cols: int, dtype: str = "float16", protocol: str = "cold") -> float:
    x = (3 * torch.randn(rows, cols, device="cuda")).to(getattr(torch, dtype))
    error = far(kernels.softmax(x)[-CHECKED:], torch.softmax(x[-CHECKED:].double(), -1))
    byte = 2 * x.numel() * x.element_size()
    shape = f"{rows:,} x {cols:,}"
    return row("softmax", shape, dtype, byte, lambda: kernels.softmax(x), lambda: torch.softmax(x, -1), error, protocol)


def softmax_backward(rows: int, cols: int, dtype: str = "float16", protocol: str = "cold") -> float:
    y = torch.softmax(3 * torch.randn(rows, cols, device="cuda"), -1).to(getattr(torch, dtype))
    g = torch.randn_like(y)
    p, q = y[-CHECKED:].double(), g[-CHECKED:].double()
    error = far(kernels.softmax_backward(y, g)[-CHECKED:], p * (q - (p * q).sum(-1, keepdim=True)))
    theirs = lambda: torch._softmax_backward_data(g, y, -1, y.dtype)  # noqa: E731
    shape, byte = f"{rows:,} x {cols:,}", 3 * y.numel() * y.element_size()
    return row("softmax backward", shape, dtype, byte, lambda: kernels.softmax_backward(y, g), theirs, error, protocol)


def _normal(rows: int, cols: int, dtype: str) -> tuple[Any, Any, Any]:
    kind = getattr(torch, dtype)
    w, b = (torch.randn(cols, device="cuda", dtype=kind) for _ in range(2))
    return (torch.randn(rows, cols, device="cuda") + 0.5).to(kind), w, b


def layernorm(rows: int, cols: int, dtype: str = "float16", protocol: str = "cold") -> float:
    x, w, b = _normal(rows, cols, dtype)
    wanted = functional.layer_norm(x[-CHECKED:].double(), (cols,), w.double(), b.double())
    error = far(kernels.layernorm(x, w, b)[-CHECKED:], wanted)
    theirs = lambda: functional.layer_norm(x, (cols,), w, b)  # noqa: E731
    shape, byte = f"{rows:,} x {cols:,}", 2 * x.numel() * x.element_size()
    return row("LayerNorm", shape, dtype, byte, lambda: kernels.layernorm(x, w, b), theirs, error, protocol)


def rmsnorm(rows: int, cols: int, dtype: str = "float16", protocol: str = "cold") -> float:
    x, w, _ = _normal(rows, cols, dtype)
    part = x[-CHECKED:].double()
    error = far(
        kernels.rmsnorm(x, w)[-CHECKED:], part * torch.rsqrt((part**2).mean(-1, keepdim=True) + 1e-5) * w.double()
    )
    theirs = lambda: functional.rms_norm(x, (cols,), w, 1e-5)  # noqa: E731
    shape, byte = f"{rows:,} x {cols:,}", 2 * x.numel() * x.element_size()
    return row("RMSNorm", shape, dtype, byte, lambda: kernels.rmsnorm(x, w), theirs, error, protocol)


def layernorm_backward(rows: int, cols: int, dtype: str = "float16", protocol: str = "cold") -> float:
    x, w, b = _normal(rows, cols, dtype)
    g = torch.randn_like(x)
    _, mean, rstd = kernels.layernorm(x, w, b, keep=True)
    ours = lambda: kernels.layernorm_backward(g, x, w, mean, rstd)  # noqa: E731
    found = ours()
    part = x[-CHECKED:].double().requires_grad_()
    functional.layer_norm(part, (cols,), w.double(), b.double()).backward(g[-CHECKED:].double())
    few = slice(0, None, max(1, cols // CHECKED))
    hat = (x[:, few].double() - mean.double()[:, None]) * rstd.double()[:, None]
    up = g[:, few].double()
    error = max(
        far(found[0][-CHECKED:], part.grad), far(found[1][few], (up * hat).sum(0)), far(found[2][few], up.sum(0))
    )
    del found, hat, up
    m, r = mean.view(rows, 1), rstd.view(rows, 1)
    every = [True, True, True]
    theirs = lambda: torch.ops.aten.native_layer_norm_backward(g, x, (cols,), m, r, w, b, every)  # noqa: E731
    shape, byte = f"{rows:,} x {cols:,}", 3 * x.numel() * x.element_size()
    return row("LayerNorm backward", shape, dtype, byte, ours, theirs, error, protocol)


LENGTHS = (128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768)
BY_ROWS = {
    "softmax": softmax,
    "softmax_backward": softmax_backward,
    "layernorm": layernorm,
    "layernorm_backward": layernorm_backward,
    "rmsnorm": rmsnorm,
}


def convolutions() -> None:
    for K in (3, 4, 7):
        conv1d(1, 8192, 8192, K)
    conv1d(16, 4096, 1024, 3)
    conv1d(4, 8192, 4096, 4)
    conv1d(1, 8192, 8192, 5, beside=False)
    sizes = (1024, 2048, 4096, 8192)
    for K in (3, 4, 7):
        shares = {
            (B, N, D): conv1d(B, N, D, K, beside=False)
            for B in (1, 4, 16)
            for N in sizes
            for D in sizes
            if 4 * B * N * D > LARGE_BYTE
        }
        worst = min(shares, key=lambda at: shares[at])
        print(
            f"conv1d, K {K}, {len(shares)} shapes over 100 MB: lowest share of stream {shares[worst]:.1f} %, at {worst}"
        )


def small() -> None:
    for protocol in ("cold", "warm"):
        for B, N, D in ((1, 1024, 1024), (1, 2048, 2048), (4, 1024, 1024), (1, 77, 48)):
            for K in (3, 4, 7):
                conv1d(B, N, D, K, protocol=protocol)
        for of in BY_ROWS.values():
            for rows, cols in ((64, 128), (1024, 1024), (2048, 768), (4096, 4096), (512, 16384), (333, 3537)):
                of(rows, cols, protocol=protocol)


def types() -> None:
    for dtype in ("bfloat16", "float32"):
        for K in (3, 7):
            conv1d(1, 8192, 8192, K, dtype)
        for of in BY_ROWS.values():
            for cols in (1024, 4096, 16384):
                of(ELEMENTS // 2 // cols, cols, dtype)


def main(wanted: list[str]) -> None:
    unknown = [word for word in wanted if word not in NAMES]
    if unknown:
        sys.exit(f"benchmarks/kernels.py: {unknown[0]!r} is not a part; {', '.join(NAMES)} are accepted.")
    torch.manual_seed(0)
    print(
        f"{torch.cuda.get_device_name()}, torch {torch.__version__}, CuPy {cupy.__version__}, medians of {SAMPLES} or more"
    )
    print("| kernel | shape | ours | torch | stream | of stream |\n|---|---|---:|---:|---:|---:|")
    for part in wanted or NAMES:
        if part in BY_ROWS:
            for cols in LENGTHS:
                BY_ROWS[part](ELEMENTS // cols, cols)
        else:
            {"conv1d": convolutions, "small": small, "types": types}[part]()


if __name__ == "__main__":
    main(sys.argv[1:])
