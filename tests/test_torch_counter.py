"""Products compared with torch's counter of dispatched matrix products and convolutions.

Everything runs on the meta device.
"""

from __future__ import annotations

import pytest

from perfmodel import analyse, ops
from perfmodel.expression import Expression

torch = pytest.importorskip("torch", reason="torch's counter is the reference")
counter = pytest.importorskip("torch.utils.flop_counter")

META = {"device": "meta", "dtype": torch.float16}


def counted(run):
    with counter.FlopCounterMode(display=False) as mode:
        run()
    return mode.get_total_flops()


def empty(*shape, grad=False):
    return torch.empty(*shape, **META, requires_grad=grad)


def products(name, **sizes):
    return ops.find(name)(**sizes).contraction_flops()


def backward_products(name, fused=False, **sizes):
    operation = ops.find(name)
    found = 0
    for backward in operation.backward:
        gradient = ops.find(backward.fused if fused and backward.fused else backward.operation)
        own = {symbol: Expression(text, name)(sizes) for symbol, text in backward.sizes}
        complete = {symbol: value for symbol, value in {**sizes, **own}.items() if symbol in gradient.arguments}
        found += gradient(**complete).contraction_flops()
    return found


# --- products and linear layers


def test_matmul():
    assert counted(lambda: empty(48, 80) @ empty(80, 112)) == products("matmul", m=48, k=80, n=112)


def test_batched_matmul_forward_and_backward():
    sizes = {"batch": 6, "m": 16, "k": 24, "n": 40}
    a, b = empty(6, 16, 24, grad=True), empty(6, 24, 40, grad=True)
    assert counted(lambda: torch.bmm(a, b)) == products("matmul", **sizes)
    both = products("matmul", **sizes) + backward_products("matmul", **sizes)
    assert counted(lambda: torch.bmm(a, b).sum().backward()) == both


@pytest.mark.parametrize("bias", [False, True])
def test_linear_forward_and_backward(bias):
    name, sizes = "linear_bias" if bias else "linear", {"B": 2, "N": 16, "D_in": 24, "D_out": 40}
    layer, x = torch.nn.Linear(24, 40, bias=bias, **META), empty(2, 16, 24, grad=True)
    assert counted(lambda: layer(x)) == products(name, **sizes)
    both = products(name, **sizes) + backward_products(name, **sizes)
    assert counted(lambda: layer(x).sum().backward()) == both


def test_a_first_layer_needs_no_gradient_of_its_input():
    """torch omits the gradient of the input here, so only one of the two gradients of the operation remains."""
    layer, x = torch.nn.Linear(24, 40, bias=False, **META), empty(2, 16, 24)
    sizes = {"B": 2, "N": 16, "D_in": 24, "D_out": 40}
    assert counted(lambda: layer(x).sum().backward()) == products("linear", **sizes) + products(
        "linear_weight_gradient", **sizes
    )


# --- attention


def sdpa(backend, *tensors, **options):
    with torch.nn.attention.sdpa_kernel(backend):
        return torch.nn.functional.scaled_dot_product_attention(*tensors, **options)


ATTENTION = {"B": 2, "H": 4, "H_kv": 4, "N": 32, "S": 48, "d": 16}


@pytest.mark.parametrize("causal", [False, True])
def test_attention_by_the_math_back_end(causal):
    """An eager kernel computes the full square with or without a mask: our count without the causal discount."""
    math = torch.nn.attention.SDPBackend.MATH
    q, k, v = (empty(2, 4, n, 16, grad=True) for n in (32, 48, 48))
    assert counted(lambda: sdpa(math, q, k, v, is_causal=causal)) == products("attention", **ATTENTION)
    both = products("attention", **ATTENTION) + backward_products("attention", **ATTENTION)
    assert (
        counted(lambda: sdpa(math, q, k, v, is_causal=causal).sum().backward())
        == both
        == 3 * products("attention", **ATTENTION)
    )


def test_flash_attention_recomputes():
    """7/2 of the forward pass, by torch's formula for the flash kernels."""
    aten = torch.ops.aten
    q, k, v = empty(2, 4, 32, 16), empty(2, 4, 48, 16), empty(2, 4, 48, 16)
    forward = counted(lambda: aten._scaled_dot_product_flash_attention(q, k, v))
    assert forward == products("attention", **ATTENTION)
    backward = counter.sdpa_backward_flop_count(q.shape, q.shape, k.shape, v.shape)
    assert backward == backward_products("attention", fused=True, **ATTENTION)
    assert 2 * (forward + backward) == 7 * forward


# --- convolution

CONV = {"B": 2, "N": 64, "D": 32, "K": 3}


def convolution(grad=False):
    u, taps, bias = empty(2, 32, 64, grad=grad), empty(32, 1, 3, grad=grad), empty(32, grad=grad)
    return torch.nn.functional.conv1d(u, taps, bias, padding=2, groups=32)


def test_depthwise_convolution_forward():
    """torch counts 2 K for each of the L + K - 1 outputs with padding on both sides. The first L are kept."""
    per_output = products("conv1d", **CONV) // 64
    assert counted(convolution) == 66 * per_output == 66 * 2 * 32 * 2 * 3


def test_depthwise_convolution_backward_is_not_torchs_number():
    """The backward formula of torch ignores groups, so 32 channels make its gradients almost 32 times too large."""
    forward, ours = products("conv1d", **CONV), backward_products("conv1d", **CONV)
    assert ours == 2 * forward
    theirs = counted(lambda: convolution(grad=True).sum().backward()) - counted(convolution)
    assert theirs > 8 * ours


@pytest.mark.parametrize("stride", [1, 2])
def test_full_convolution_forward_and_backward(stride):
    """Without groups the two gradients of torch are correct too."""
    sizes = {"B": 2, "N": 64, "D_in": 16, "D_out": 24, "K": 3, "stride": stride}
    layer, x = torch.nn.Conv1d(16, 24, 3, stride, padding=1, **META), empty(2, 16, 64 * stride, grad=True)
    forward = products("conv", **sizes)
    assert counted(lambda: layer(x)) == forward
    assert counted(lambda: layer(x).sum().backward()) == forward + backward_products("conv", **sizes) == 3 * forward


# --- whole models


class Gpt(torch.nn.Module):
    """GPT-2 in its shapes: fused q, k, v with biases, a GELU MLP of four times the width, logits from the token table."""

    def __init__(self, layers, width, heads, words, positions):
        super().__init__()
        self.tokens, self.positions = torch.nn.Embedding(words, width, **META), empty(positions, width)
        self.blocks = torch.nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.norm = torch.nn.LayerNorm(width, **META)

    def forward(self, tokens):
        x = self.tokens(tokens) + self.positions[: tokens.shape[1]]
        for block in self.blocks:
            x = block(x)
        return self.norm(x) @ self.tokens.weight.T


class Block(torch.nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.first, self.second = torch.nn.LayerNorm(width, **META), torch.nn.LayerNorm(width, **META)
        self.qkv, self.project = torch.nn.Linear(width, 3 * width, **META), torch.nn.Linear(width, width, **META)
        self.up, self.down = torch.nn.Linear(width, 4 * width, **META), torch.nn.Linear(4 * width, width, **META)

    def forward(self, x):
        q, k, v = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in self.qkv(self.first(x)).chunk(3, -1)
        )
        attended = sdpa(torch.nn.attention.SDPBackend.MATH, q, k, v, is_causal=True)
        x = x + self.project(attended.transpose(1, 2).flatten(2))
        return x + self.down(torch.nn.functional.gelu(self.up(self.second(x)), approximate="tanh"))


def gpt_answer(phase, **settings):
    sizes = {"L": 2, "D": 96, "H": 4, "V": 211, "N": 40, "B": 3, **settings}
    return analyse("gpt2-124m", phase=phase, settings=sizes, fused=False)


def test_a_small_gpt_forward():
    model, tokens = Gpt(2, 96, 4, 211, 1024), torch.empty(3, 40, dtype=torch.long, device="meta")
    with torch.no_grad():
        assert counted(lambda: model(tokens)) == gpt_answer("prefill").total.contraction_flops


def test_a_small_gpt_forward_and_backward():
    model, tokens = Gpt(2, 96, 4, 211, 1024), torch.empty(3, 40, dtype=torch.long, device="meta")
    assert counted(lambda: model(tokens).sum().backward()) == gpt_answer("train").total.contraction_flops


def test_a_small_gpt_has_as_many_parameters():
    model = Gpt(2, 96, 4, 211, 1024)
    held = sum(parameter.numel() for parameter in model.parameters()) + model.positions.numel()
    assert gpt_answer("prefill").parameters.total == held


def test_gpt2_124m_by_torch():
    """The published total, by the counter of torch and by ours: 291,648,307,200."""
    model, tokens = Gpt(12, 768, 12, 50257, 1024), torch.empty(1, 1024, dtype=torch.long, device="meta")
    with torch.no_grad():
        assert counted(lambda: model(tokens)) == 291_648_307_200 == analyse("gpt2-124m").total.contraction_flops


class LlamaLayer(torch.nn.Module):
    """A Llama layer in its shapes: grouped heads, no biases, a gated MLP."""

    def __init__(self, width, heads, key_heads, hidden):
        super().__init__()
        self.heads, self.key_heads, d = heads, key_heads, width // heads
        self.norms = torch.nn.ModuleList(torch.nn.RMSNorm(width, **META) for _ in range(2))
        sizes = {"q": heads * d, "k": key_heads * d, "v": key_heads * d}
        self.qkv = torch.nn.ModuleDict(
            {n: torch.nn.Linear(width, size, bias=False, **META) for n, size in sizes.items()}
        )
        self.project = torch.nn.Linear(width, width, bias=False, **META)
        self.gate, self.up = (torch.nn.Linear(width, hidden, bias=False, **META) for _ in range(2))
        self.down = torch.nn.Linear(hidden, width, bias=False, **META)

    def forward(self, x):
        normed = self.norms[0](x)
        q, k, v = (
            self.qkv[name](normed).unflatten(-1, (heads, -1)).transpose(1, 2)
            for name, heads in (("q", self.heads), ("k", self.key_heads), ("v", self.key_heads))
        )
        k, v = (part.repeat_interleave(self.heads // self.key_heads, dim=1) for part in (k, v))
        attended = sdpa(torch.nn.attention.SDPBackend.MATH, q, k, v)
        x = x + self.project(attended.transpose(1, 2).flatten(2))
        normed = self.norms[1](x)
        return x + self.down(torch.nn.functional.silu(self.gate(normed)) * self.up(normed))


LLAMA = {"B": 2, "N": 24, "D": 64, "H": 8, "H_kv": 2, "F": 176}


@pytest.mark.parametrize("phase", ["prefill", "train"])
def test_a_llama_like_layer(phase):
    layer, x = LlamaLayer(64, 8, 2, 176), empty(2, 24, 64, grad=True)
    answer = analyse("llama-2-7b-layer", phase=phase, settings=LLAMA, fused=False)
    run = (lambda: layer(x)) if phase == "prefill" else (lambda: layer(x).sum().backward())
    assert counted(run) == answer.total.contraction_flops
    assert sum(parameter.numel() for parameter in layer.parameters()) == answer.parameters.total


def test_an_encoder_block():
    """The encoder layer of torch, forward and backward."""
    layer = torch.nn.TransformerEncoderLayer(64, 4, 128, batch_first=True, **META)
    x = empty(2, 24, 64, grad=True)
    answer = analyse("encoder-block", phase="train", settings={"B": 2, "N": 24, "D": 64, "H": 4, "F": 128}, fused=False)
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        assert counted(lambda: layer(x).sum().backward()) == answer.total.contraction_flops
