"""CUDA kernels: sources compile if a compiler exists, and on a GPU each result is compared with float64."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from perfmodel.cuda import FOLDER

KERNELS = Path(FOLDER)
NVCC = shutil.which("nvcc")


def compiled(tmp_path, source, card, **macros):
    """Returns the output of the compiler for a source and a card."""
    text = tmp_path / source
    text.write_text((KERNELS / "common.cuh").read_text() + (KERNELS / source).read_text())
    flags = [f"-D{name}={value}" if value != "" else f"-D{name}" for name, value in macros.items()]
    command = [NVCC, "-std=c++17", f"-arch={card}", "-cubin", "-o", str(tmp_path / "out.cubin"), *flags, str(text)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


ROW = {"VEC": 8, "TPR": 128, "VPT": 4, "STAGES": 1, "THREADS": 128, "CLUSTER": 1, "HELD": 1, "FULL": 1, "MASK": 0}
ONE = {"VEC": 1, "TPR": 1, "VPT": 1, "STAGES": 1, "THREADS": 32, "CLUSTER": 1, "HELD": 1, "FULL": 0, "MASK": 0}


@pytest.mark.skipif(NVCC is None, reason="no CUDA compiler here")
@pytest.mark.parametrize(
    ("source", "card", "macros"),
    [
        ("conv1d.cu", "sm_90", {"T_FP16": "", "VEC": 8, "K": 3, "RUN": 8, "STRIP": 8, "THREADS": 256, "TALL": 4}),
        ("conv1d.cu", "sm_75", {"T_FP32": "", "VEC": 1, "K": 1, "RUN": 2, "STRIP": 16, "THREADS": 64}),
        ("quantise.cu", "sm_90", {"T_BF16": "", "VEC": 8, "THREADS": 256, "LANES": 16}),
        ("quantise.cu", "sm_89", {"T_FP32": "", "VEC": 4, "THREADS": 256, "LANES": 32}),
        ("quantise.cu", "sm_80", {"T_FP16": "", "VEC": 8, "THREADS": 256, "LANES": 1}),
        *(
            ("unpack.cu", "sm_90", {kind: "", "VEC": 8, "ROWS": 8, "THREADS": 256, "FORMAT": form, "GROUP": group})
            for kind, form, group in (("T_FP16", 1, 128), ("T_BF16", 2, 32), ("T_BF16", 3, 16))
        ),
        ("rows.cu", "sm_90", {"T_FP16": "", "FAMILY": 1, **ROW, "STAGES": 0, "MASK": 1}),
        ("rows.cu", "sm_90", {"T_BF16": "", "FAMILY": 2, **ROW, "HELD": 0}),
        ("rows.cu", "sm_90", {"T_BF16": "", "FAMILY": 3, **ROW, "CLUSTER": 2, "STAGES": 3}),
        ("rows.cu", "sm_80", {"T_FP32": "", "FAMILY": 3, **ROW, "VEC": 4, "THREADS": 256, "STAGES": 3}),
        ("rows.cu", "sm_75", {"T_BF16": "", "FAMILY": 1, **ONE}),
        ("rows.cu", "sm_75", {"T_BF16": "", "FAMILY": 2, **ONE}),
        ("rows.cu", "sm_75", {"T_BF16": "", "FAMILY": 3, **ONE}),
    ],
)
def test_sources_compile_without_a_word(tmp_path, source, card, macros):
    told = compiled(tmp_path, source, card, **macros)
    assert (told.returncode, told.stderr) == (0, "")


CARDS = [(132, 227 << 10, True), (108, 163 << 10, False), (72, 64 << 10, False)]  # H200, A100, T4


@pytest.mark.parametrize(("processors", "shared", "clusters"), CARDS)
@pytest.mark.parametrize("size", [2, 4])
def test_a_layout_holds_its_row_and_fits_the_card(monkeypatch, processors, shared, clusters, size):
    from perfmodel.cuda import layouts
    from perfmodel.measure.kernels import rows
    from perfmodel.measure.kernels.launch import Array

    monkeypatch.setattr(rows, "multiprocessors", lambda: processors)
    monkeypatch.setattr(rows, "shared_at_most", lambda: shared - 2048)
    monkeypatch.setattr(rows, "clusters", lambda: clusters)
    for name, inputs in (
        ("softmax_forward", 1),
        ("softmax_backward", 2),
        ("layernorm_forward", 1),
        ("layernorm_backward", 2),
    ):
        for count in (1, 64, 1024, 1 << 20):
            for cols in (1, 5, 77, 128, 513, 1024, 3537, 8192, 16384, 20001, 32768, 131072):
                x = Array(0, (count, cols), {2: "float16", 4: "float32"}[size], None)
                found = rows.layout(name, count, cols, inputs, x)
                if found is None:
                    assert cols > 512  # the kernels that read a row twice take it
                    continue
                assert found.row_threads * found.vectors * found.cluster * found.wide >= cols
                assert found.threads % found.row_threads == 0
                assert found.row_threads * found.cluster <= 1024
                assert found.cluster == 1 or (clusters and found.threads == found.row_threads)
                assert found.stages >= (3 if name == "layernorm_backward" else 0 if found.held else 1)
                sums = 8 * cols * found.groups if name == "layernorm_backward" and found.groups > 1 else 0
                assert max(sums, found.shared_byte(inputs) + layouts.weights_byte(name, found)) <= shared - 2048


def test_the_attributes_of_a_device_are_read_once(monkeypatch):
    from types import SimpleNamespace

    from perfmodel.measure.kernels import launch

    read = []

    class Device:
        def __init__(self, number):
            read.append(number)
            self.attributes = {"MultiProcessorCount": 10 + number, "MaxSharedMemoryPerBlockOptin": 232448}
            self.compute_capability = "90"

    current = [0]
    runtime = SimpleNamespace(getDevice=lambda: current[0])
    lib = SimpleNamespace(cuda=SimpleNamespace(Device=Device, runtime=runtime))
    monkeypatch.setattr(launch, "cupy", lambda: lib)
    for cached in (launch._attributes, launch._capability):
        cached.cache_clear()
    try:
        assert [launch.multiprocessors() for _ in range(3)] == [10, 10, 10]
        assert (launch.shared_at_most(), launch.clusters()) == (230400, True)
        current[0] = 1
        assert launch.multiprocessors() == 11
        assert read == [0, 0, 1]  # attributes, capability; attributes of the other
    finally:
        for cached in (launch._attributes, launch._capability):
            cached.cache_clear()


def card():
    """Returns torch with a CUDA device if CuPy is installed too, or skips with the reason."""
    torch = pytest.importorskip("torch", reason="torch is not installed")
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device here")
    pytest.importorskip("cupy", reason="CuPy is not installed")
    return torch


def close(found, wanted, dtype):
    """Checks that the relative norm is within a few rounding errors and that every element was written."""
    bound = {"float16": 1e-3, "bfloat16": 8e-3, "float32": 1e-5}[dtype]
    found = found.double()
    assert bool(found.isfinite().all())
    assert float((found - wanted).norm() / wanted.norm().clamp_min(1e-30)) < bound


TYPES = ["float16", "bfloat16", "float32"]
SHAPES = [
    (7, 3),
    (33, 5),
    (1000, 77),
    (64, 1023),
    (3000, 128),
    (300, 4096),
    (700, 16384),
    (5, 20000),
    (300, 32768),
    (3, 131072),
]


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(
    "shape",
    [
        (2, 333, 77, 3),
        (1, 100, 64, 7),
        (3, 5, 8, 9),
        (1, 50, 256, 64),
        (2, 1, 3, 1),
        (2, 3001, 2056, 4),
        (1, 4099, 1536, 7),
    ],
)
def test_the_convolution_and_its_gradients(shape, dtype):
    torch = card()
    from perfmodel.measure import kernels

    B, N, D, K = shape
    kind = getattr(torch, dtype)
    u, g = (torch.randn(B, N, D, device="cuda", dtype=kind) for _ in range(2))
    f, b = torch.randn(D, K, device="cuda", dtype=kind), torch.randn(D, device="cuda", dtype=kind)
    exact = [t.double().requires_grad_() for t in (u, f, b)]
    padded = torch.nn.functional.pad(exact[0].transpose(1, 2), (K - 1, 0))
    wanted = torch.nn.functional.conv1d(padded, exact[1].unsqueeze(1), exact[2], groups=D).transpose(1, 2)
    close(kernels.conv1d(u, f, b), wanted.detach(), dtype)
    close(kernels.conv1d_two_kernels(u, f, b), wanted.detach(), dtype)
    wanted.backward(g.double())
    for found, of in zip(kernels.conv1d_backward(u, f, g), exact, strict=True):
        close(found, of.grad, dtype)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_the_softmax_and_its_gradient(shape, dtype):
    torch = card()
    from perfmodel.measure import kernels

    x = (torch.randn(*shape, device="cuda") * 3 + 100).to(getattr(torch, dtype))
    y, dy = kernels.softmax(x), torch.randn_like(x)
    close(y, torch.softmax(x.double(), -1), dtype)
    exact = y.double()
    close(kernels.softmax_backward(y, dy), exact * (dy.double() - (exact * dy.double()).sum(-1, keepdim=True)), dtype)


@pytest.mark.gpu
def test_the_softmax_of_masked_rows():
    torch = card()
    from perfmodel.measure import kernels

    x = torch.randn(2, 3, 8, 40, device="cuda")
    mask = torch.zeros(8, 40, device="cuda").masked_fill(torch.rand(8, 40, device="cuda") < 0.5, float("-inf"))
    mask[:, 0] = 0
    close(kernels.softmax(x, mask), torch.softmax(x.double() + mask.double(), -1), "float32")
    assert float(kernels.softmax(torch.full_like(x, float("-inf"))).abs().max()) == 0  # no key at all: zeros
    close(kernels.softmax(x.transpose(0, 1)), torch.softmax(x.transpose(0, 1).double(), -1), "float32")
    for cols in (4096, 32768):  # warps that see nothing but minus infinity
        x = torch.randn(3, 2, cols, device="cuda") + 50
        x[..., : cols // 2 + 100] = float("-inf")
        hidden = torch.randn(2, cols, device="cuda")
        close(kernels.softmax(x), torch.softmax(x.double(), -1), "float32")
        close(kernels.softmax(x, hidden), torch.softmax(x.double() + hidden.double(), -1), "float32")


@pytest.mark.gpu
@pytest.mark.parametrize("cols", [40, 1024, 32768])
def test_the_scale_of_a_softmax_and_of_its_gradient(cols):
    torch = card()
    from perfmodel.errors import InputError
    from perfmodel.measure import kernels

    x, dy = (torch.randn(3, 8, cols, device="cuda") for _ in range(2))
    mask = torch.zeros(8, cols, device="cuda").masked_fill(torch.rand(8, cols, device="cuda") < 0.5, float("-inf"))
    mask[:, 0] = 0
    for hidden in (None, mask):
        exact = x.double().requires_grad_()
        wanted = torch.softmax(0.3 * exact + (0 if hidden is None else hidden.double()), -1)
        wanted.backward(dy.double())
        y = kernels.softmax(x, hidden, 0.3)
        close(y, wanted.detach(), "float32")
        close(kernels.softmax_backward(y, dy, 0.3), exact.grad, "float32")
    shifted = torch.cat((mask.flatten()[:1], mask.flatten()))[1:].view(mask.shape)  # not aligned to 16 bytes
    assert shifted.data_ptr() % 16 == 4
    assert torch.equal(kernels.softmax(x, shifted, 0.3), y)
    with pytest.raises(InputError, match="a positive number is accepted"):
        kernels.softmax(x, scale=0.0)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("offset", [0.0, 30.0])
def test_the_norms_and_their_gradients(shape, dtype, offset):
    torch = card()
    from perfmodel.measure import kernels

    kind, cols = getattr(torch, dtype), shape[1]
    x = (torch.randn(*shape, device="cuda") + offset).to(kind)
    w, b = (torch.randn(cols, device="cuda", dtype=kind) for _ in range(2))
    dy = torch.randn_like(x)
    exact = [t.double().requires_grad_() for t in (x, w, b)]
    wanted = torch.nn.functional.layer_norm(exact[0], (cols,), exact[1], exact[2])
    y, mean, rstd = kernels.layernorm(x, w, b, keep=True)
    close(y, wanted.detach(), dtype)
    square = exact[0].detach() ** 2
    root = exact[0].detach() * torch.rsqrt(square.mean(-1, keepdim=True) + 1e-5) * exact[1].detach()
    close(kernels.rmsnorm(x, w), root, dtype)
    wanted.backward(dy.double())
    for found, of in zip(kernels.layernorm_backward(dy, x, w, mean, rstd), exact, strict=True):
        close(found, of.grad, dtype)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", [(1, 128), (33, 256), (700, 4096), (257, 14336)])
def test_quantised_rows_are_the_nearest_8_bit_floats(dtype, shape):
    """Against float64 on the device: each value within half a step of its neighbours, scales exact to float32."""
    torch = card()
    if torch.cuda.get_device_capability() < (8, 9):
        pytest.skip("this device has no conversion to 8-bit floats")
    from perfmodel.measure.kernels import quantise

    torch.manual_seed(3)
    x = torch.randn(shape, device="cuda").to(getattr(torch, dtype))
    wide = x.double()
    found = {
        "token": (quantise.quantise_token(x), wide.abs().amax(1, keepdim=True) / 448),
        "block": (quantise.quantise_block(x, 128), wide.unflatten(1, (-1, 128)).abs().amax(2) / 448),
        "tensor": (quantise.quantise_tensor(x), wide.abs().max().view(1, 1) / 448),
    }
    turned = quantise.quantise_block(x, 128, turned=True)[1].t()
    assert torch.equal(turned, found["block"][0][1])
    for (bits, scales), wanted in found.values():
        torch.testing.assert_close(scales.double().view(wanted.shape), wanted, rtol=1e-6, atol=0)
        every = wanted.expand(shape[0], -1).repeat_interleave(shape[1] // wanted.shape[1], 1)
        exact, got = wide / every, bits.view(torch.float8_e4m3fn).double()
        assert float(got.abs().max()) == 448
        assert bool(((got - exact).abs() <= exact.abs() / 16 * 1.001 + 2.0**-10).all())
    given = torch.full((1,), 1000.0, device="cuda")
    static = quantise.quantise_static(x, given).view(torch.float8_e4m3fn).double()
    assert bool(((static - (wide * 1000).clamp(-448, 448)).abs() <= wide.abs() * 1000 / 16 * 1.001 + 2.0**-10).all())
    zeros = quantise.quantise_token(torch.zeros_like(x))
    assert not zeros[0].any()
    assert not zeros[1].any()
