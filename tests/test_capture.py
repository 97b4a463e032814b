"""Captured torch modules: their calls, places, memory and products, compared with torch and with hand-worked programs."""

from __future__ import annotations

import functools
import sys
from collections import Counter

import pytest
from many import for_each

from perfmodel.aten import launched
from perfmodel.capture import Dim, Spec, capture, ids
from perfmodel.errors import InputError
from perfmodel.symbolic import symbol

torch = pytest.importorskip("torch", reason="a capture reads torch modules")
counter = pytest.importorskip("torch.utils.flop_counter")
functional = torch.nn.functional

META = {"device": "meta"}


def names(program, phase=None):
    return [step.call.name for step in program.steps if phase in (None, step.phase)]


def products(program):
    return sum(kernel.op.contraction_flops() for step in program.steps for kernel in launched(step.call))


def counted(run):
    with counter.FlopCounterMode(display=False) as mode:
        run()
    return mode.get_total_flops()


def meta(*shape, dtype=torch.float32, grad=False):
    return torch.empty(*shape, dtype=dtype, device="meta", requires_grad=grad)


# --- calls


def test_a_linear_layer_is_one_call_with_the_memory_that_it_uses():
    layer = torch.nn.Linear(8, 16, dtype=torch.bfloat16)
    program = capture(layer, torch.randn(4, 8).bfloat16())
    (step,) = program.steps
    assert (step.call.name, step.module, step.phase, step.source) == ("addmm", "", "forward", "aten::addmm")
    bias, x, weight = step.call.operands
    assert (x.shape, x.dtype, x.strides, x.storage_byte) == ((4, 8), "bf16", (8, 1), 64)
    assert (weight.shape, weight.strides) == ((8, 16), (1, 8))  # a transposed view: no kernel, but work of the host
    assert step.host.views == 1
    assert step.call.results[0].shape == (4, 16)
    held = {program.resident[operand.storage][1:] for operand in (bias, x, weight)}
    assert held == {("parameter", "bias"), ("input", ""), ("parameter", "weight")}
    assert program.name == "Linear"


def test_calls_on_the_host_alone_are_executed_and_not_recorded():
    weight, seen = torch.nn.Linear(2, 2), []

    def run():
        steps = torch.arange(5) * 2
        seen.append(steps.tolist())
        return weight(torch.ones(1, 2, device="cuda"))

    assert names(capture(run)) == ["ones", "addmm"]
    assert seen == []  # also lists are as before


def test_devices_of_cards_are_the_card():
    def run(x):
        moved = (
            x.to("cuda").cuda(),
            torch.zeros(2, device=torch.device("cuda", 0)),
            x.to(torch.device("cuda"), torch.float16),
        )
        return sum(y.sum().half() for y in moved) + torch.tensor([1.0, 2.0], device="cuda")

    program = capture(run, meta(2))
    assert names(program)[:2] == ["zeros", "_to_copy"]
    transfer = [step.call for step in program.steps if step.call.keywords.get("device") == "cuda"]
    assert [call.name for call in transfer] == ["_to_copy"]


def test_a_module_has_its_path_forward_and_backward():
    model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Sequential(torch.nn.ReLU(), torch.nn.Linear(4, 2)))

    def run():
        model(torch.ones(3, 4, device="cuda")).sum().backward()

    places = Counter((step.call.name, step.module, step.phase) for step in capture(run).steps)
    assert places["addmm", "0", "forward"] == places["addmm", "1.1", "forward"] == 1
    assert places["relu", "1.0", "forward"] == places["threshold_backward", "1.0", "backward"] == 1
    assert places["mm", "1.1", "backward"] == 2  # of the input and of the weight
    assert places["mm", "0", "backward"] == 1  # the first layer's input needs no gradient


def test_a_block_that_runs_again_in_the_backward_pass_is_part_of_it():
    block = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Tanh(), torch.nn.Linear(4, 4))
    x = meta(2, 4, grad=True)

    def run():
        torch.utils.checkpoint.checkpoint(block, x, use_reentrant=False).sum().backward()

    tanh = [(step.module, step.phase) for step in capture(run).steps if step.call.name == "tanh"]
    assert tanh == [("1", "forward"), ("1", "backward")]


# --- nothing is left behind


def snapshot(model, optimizer):
    return (
        [(id(p), p.device.type, p.tolist(), p.grad) for p in model.parameters()],
        [(b.device.type, b.tolist()) for b in model.buffers()],
        {k: dict(v) for k, v in optimizer.state.items()},
        [{**group, "params": [id(p) for p in group["params"]]} for group in optimizer.param_groups],
    )


def test_a_training_step_leaves_nothing_behind():
    model = torch.nn.Sequential(
        torch.nn.Linear(4, 8), torch.nn.BatchNorm1d(8), torch.nn.Dropout(0.5), torch.nn.Linear(8, 2)
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1)
    batch, label, losses = torch.randn(6, 4), torch.tensor([0, 1, 1, 0, 1, 0]), []

    def step():
        loss = functional.cross_entropy(model(batch), label)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        model.cache = loss.detach()
        losses.append(loss.item())

    before, called, random = snapshot(model, optimizer), torch.nn.Module.__call__, torch.get_rng_state()
    program = capture(step)
    assert snapshot(model, optimizer) == before
    assert torch.nn.Module.__call__ is called
    assert torch.equal(torch.get_rng_state(), random)
    assert (losses, schedule.last_epoch, batch.device.type, hasattr(model, "cache")) == ([], 0, "cpu", False)
    assert torch.compile.__module__ == "torch"
    step()  # and it still runs
    assert len(losses) == 1
    kept = snapshot(model, optimizer)
    again = capture(step)
    assert str(snapshot(model, optimizer)) == str(kept)
    assert names(again) == names(program)


def test_an_error_of_the_program_comes_through_and_leaves_nothing_behind():
    layer = torch.nn.Linear(4, 4)
    with pytest.raises(RuntimeError, match="same reduction dim"):
        capture(layer, torch.ones(2, 5))
    assert layer(torch.ones(2, 4)).device.type == "cpu"


def test_a_gradient_that_exists_is_there_afterwards():
    layer = torch.nn.Linear(2, 2)
    layer(torch.ones(1, 2)).sum().backward()
    gradient = layer.weight.grad
    program = capture(lambda: layer.zero_grad() or layer(torch.ones(1, 2, device="cuda")).sum().backward())
    assert layer.weight.grad is gradient
    assert any(held.name == "weight.grad" for held in program.resident.values())


def test_partials_bound_methods_and_arguments_are_reached():
    class Trainer:
        def __init__(self):
            self.layers = {"only": [torch.nn.Linear(2, 3)]}

        def step(self, scale, batch):
            return self.layers["only"][0](batch["x"]) * scale

    trainer = Trainer()
    program = capture(functools.partial(trainer.step, 2.0), {"x": torch.ones(1, 2)})
    assert names(program) == ["addmm", "mul"]
    assert trainer.layers["only"][0].weight.device.type == "cpu"


# --- what torch chooses on a card


def attention_calls(
    *, dtype=torch.bfloat16, heads=4, keys=64, queries=64, width=64, mask=None, context=None, **options
):
    query = meta(2, heads, queries, width, dtype=dtype)
    key = meta(2, options.pop("key_heads", heads), keys, width, dtype=dtype)
    run = lambda: functional.scaled_dot_product_attention(query, key, key, attn_mask=mask, **options)  # noqa: E731
    if context is None:
        return names(capture(run))
    with torch.nn.attention.sdpa_kernel(context):
        return names(capture(run))


CUDNN, FLASH, EFFICIENT = (f"_scaled_dot_product_{name}_attention" for name in ("cudnn", "flash", "efficient"))


@for_each(
    ("options", "expected"),
    [
        ({"is_causal": True}, [CUDNN]),
        ({"mask": meta(64, 64, dtype=torch.bfloat16)}, [CUDNN]),
        ({"width": 256}, [CUDNN]),
        ({"width": 100}, [*["constant_pad_nd"] * 3, FLASH]),  # cuDNN takes heads of a multiple of 8
        ({"dropout_p": 0.1}, [CUDNN]),
        ({"dropout_p": 0.1, "queries": 1}, [FLASH]),
        ({"keys": 1}, [FLASH]),
        ({"mask": meta(64, 64, dtype=torch.bfloat16), "width": 264}, [EFFICIENT]),
        ({"mask": meta(64, 64, dtype=torch.bool)}, ["scalar_tensor", "scalar_tensor", "where", CUDNN]),
        (
            # flash: causal only where both lengths are equal
            {
                "is_causal": True,
                "keys": 32,
                "context": [
                    torch.nn.attention.SDPBackend.FLASH_ATTENTION,
                    torch.nn.attention.SDPBackend.EFFICIENT_ATTENTION,
                ],
            },
            [EFFICIENT],
        ),
        ({"dtype": torch.float32}, [EFFICIENT]),
        ({"key_heads": 2, "enable_gqa": True}, [CUDNN]),
        ({"context": torch.nn.attention.SDPBackend.FLASH_ATTENTION}, [FLASH]),
        ({"context": torch.nn.attention.SDPBackend.EFFICIENT_ATTENTION}, [EFFICIENT]),
    ],
)
def test_attention_takes_the_back_end_that_a_card_takes(options, expected):
    assert attention_calls(**options) == expected


# A softmax whose rows without any visible key are zeros.
SAFE = ("_softmax", "isneginf", "all", "zeros", "where")


def test_attention_without_a_fused_kernel_falls_apart():
    calls = attention_calls(dtype=torch.float64)
    assert calls.count("bmm") == 2
    assert [name for name in calls if name in SAFE] == list(SAFE)


def test_the_gradient_of_attention_is_one_call():
    query = meta(2, 4, 64, 64, dtype=torch.bfloat16, grad=True)
    program = capture(
        lambda: functional.scaled_dot_product_attention(query, query, query, is_causal=True).sum().backward()
    )
    (backward,) = (step.call for step in program.steps if step.call.name == f"{CUDNN}_backward")
    assert [operand.shape for operand in backward.operands[:5]] == [(2, 4, 64, 64)] * 5  # gradient, q, k, v, result
    assert backward.arguments[14] is True  # causal


def test_a_head_size_that_is_no_multiple_of_8_is_padded_for_flash():
    call = next(s.call for s in capture(lambda q: functional.scaled_dot_product_attention(q, q, q), meta(1, 2, 16, 42, dtype=torch.float16)).steps if s.call.name == FLASH)  # fmt: skip
    assert call.operands[0].shape == (1, 2, 16, 48)
    assert call.keywords["scale"] == pytest.approx(42**-0.5)


def test_dropout_without_training_is_no_call():
    assert names(capture(lambda x: functional.dropout(x, 0.1, training=False) + 1, meta(4, 8))) == ["add"]


def test_dropout_and_norms_are_the_kernels_of_a_card():
    x = meta(4, 8, dtype=torch.bfloat16, grad=True)
    weight = meta(8, dtype=torch.bfloat16, grad=True)
    run = lambda: functional.rms_norm(functional.dropout(x, 0.1), (8,), weight).sum().backward()  # noqa: E731
    calls = names(capture(run))
    assert calls[:2] == ["native_dropout", "_fused_rms_norm"]
    assert calls[-2:] == ["_fused_rms_norm_backward", "native_dropout_backward"]
    with torch.inference_mode():
        assert names(capture(lambda: functional.rms_norm(meta(4, 8), (8,)))) == ["_fused_rms_norm"]


def test_a_softmax_of_fp16_in_fp32_reads_halves():
    """And one of bf16 does not: recorded with torch 2.11 on an H100."""
    for dtype, expected in ((torch.float16, ["_softmax"]), (torch.bfloat16, ["_to_copy", "_softmax"])):
        program = capture(lambda x: functional.softmax(x, -1, dtype=torch.float32), meta(4, 8, dtype=dtype))
        assert names(program) == expected
        assert program.steps[-1].call.results[0].dtype == "fp32"


def test_numbers_that_are_set_are_fills():
    def run(x, mask, places):
        x[:, 0] = 1.0
        x[mask] = 2.0
        x[places] = 3.0

    program = capture(run, meta(4, 3), meta(4, dtype=torch.bool), meta(2, dtype=torch.int64))
    assert names(program) == ["fill_", "masked_fill_", "index_put_"]


def test_recurrent_layers_are_one_call():
    layer = torch.nn.LSTM(8, 4, 2, batch_first=True)
    program = capture(lambda: layer(torch.ones(3, 5, 8, device="cuda"))[0].sum().backward())
    assert [name for name in names(program) if "rnn" in name] == ["_cudnn_rnn", "_cudnn_rnn_backward"]
    (call,) = (step.call for step in program.steps if step.call.name == "_cudnn_rnn")
    assert call.results[0][:3] == ((3, 5, 4), "fp32", (4, 12, 1))


def test_a_convolution_keeps_its_channels_last():
    layer = torch.nn.Conv2d(3, 8, 3).to(memory_format=torch.channels_last)
    (step,) = capture(layer, meta(1, 3, 8, 8)).steps
    assert step.call.results[0].strides == (288, 1, 48, 8)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, "_foreach_addcdiv_"),
        ({"fused": True}, "_fused_adamw_"),
        ({"foreach": False}, "addcdiv_"),
    ],
    ids=str,
)
def test_an_optimizer_takes_the_implementation_of_a_card(options, expected):
    layer = torch.nn.Linear(4, 4)
    optimizer = torch.optim.AdamW(layer.parameters(), **options)

    def step():
        layer(torch.ones(2, 4, device="cuda")).sum().backward()
        optimizer.step()
        optimizer.zero_grad()

    program = capture(step)
    assert expected in names(program, "optimizer")
    assert "zeros_like" not in names(program)  # the state is there: it is the second step
    assert sum(held.byte for held in program.resident.values() if held.role == "state") >= 2 * (16 + 4) * 4


def test_gradients_are_clipped_together():
    layer = torch.nn.Linear(4, 4)

    def step():
        layer(torch.ones(2, 4, device="cuda")).sum().backward()
        torch.nn.utils.clip_grad_norm_(layer.parameters(), 1.0)

    assert [name for name in names(capture(step), "optimizer") if "foreach" in name] == [
        "_foreach_norm",
        "_foreach_mul_",
    ]


def test_flex_attention_is_one_call():
    flex = pytest.importorskip("torch.nn.attention.flex_attention")
    query = meta(1, 4, 256, 64, dtype=torch.bfloat16, grad=True)
    program = capture(lambda: flex.flex_attention(query, query, query).sum().backward())
    calls = {step.call.name: step.call for step in program.steps}
    assert calls["flex_attention"].results[0].shape == (1, 4, 256, 64)
    assert calls["flex_attention_backward"].results[2].shape == (1, 4, 256, 64)

    def causal():
        mask = flex.create_block_mask(lambda b, h, i, j: i >= j, 1, 1, 256, 256, device="cuda")
        flex.flex_attention(query, query, query, block_mask=mask)

    (call,) = (step.call for step in capture(causal).steps if step.call.name == "flex_attention")
    assert call.keywords["share"] == 3 / 4  # 2 x 2 blocks of 128, without the upper right one


# --- autocast


def test_autocast_casts_as_on_a_card():
    layer, norm = torch.nn.Linear(4, 4, bias=False), torch.nn.LayerNorm(4)

    def run(x):
        with torch.autocast("cuda", dtype=torch.bfloat16):
            y = layer(layer(x))
            with torch.autocast("cuda", enabled=False):
                z = layer(x)
            return norm(y) + z, functional.softmax(y, -1), torch.cat((y, x))

    calls = [(s.call.name, s.call.results[0].dtype) for s in capture(run, meta(2, 4)).steps]
    assert calls == [
        ("_to_copy", "bf16"), ("_to_copy", "bf16"), ("mm", "bf16"), ("mm", "bf16"),  # the weight is cast once
        ("mm", "fp32"), ("_to_copy", "fp32"), ("native_layer_norm", "fp32"), ("add", "fp32"),
        ("_to_copy", "fp32"), ("_softmax", "fp32"), ("cat", "fp32"),
    ]  # fmt: skip
    assert not torch._C._dispatch_tls_is_dispatch_key_included("AutocastIPU")


def test_autocast_holds_where_a_block_runs_again():
    block, x = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Tanh(), torch.nn.Linear(4, 4)), meta(2, 4, grad=True)

    def run():
        with torch.autocast("cuda", dtype=torch.bfloat16):
            loss = torch.utils.checkpoint.checkpoint(block, x, use_reentrant=False).sum()
        loss.backward()

    tanh = [step.call.results[0].dtype for step in capture(run).steps if step.call.name == "tanh"]
    assert tanh == ["bf16", "bf16"]


def test_a_model_of_transformers_turns_autocast_off_for_its_rotations():
    model, ids = built("llama").float(), meta(1, 16, dtype=torch.int64)

    def run():
        with torch.no_grad(), torch.autocast("cuda", dtype=torch.bfloat16):
            model(input_ids=ids)

    types = {step.call.results[0].dtype for step in capture(run).steps if step.call.name in ("cos", "sin")}
    assert types == {"fp32"}


# --- questions that only data can answer


def test_a_branch_on_unknown_data_is_a_stated_guess():
    def run(x):
        return x + 1 if x.sum() > 0 else x * 2

    program = capture(run, meta(4))
    assert names(program) == ["sum", "gt", "mul"]
    assert program.steps[2].host.waits
    (guess,) = program.guesses
    assert guess.startswith("test_capture.py:")
    assert guess.endswith(": bool(tensor) taken as False")
    assert names(capture(run, meta(4), guess={"bool": True})) == ["sum", "gt", "add"]
    place = guess.rpartition(": ")[0]
    assert names(capture(run, meta(4), guess={place: True})) == ["sum", "gt", "add"]
    assert names(capture(run, meta(4), guess=lambda kind, place, value: kind == "bool")) == ["sum", "gt", "add"]


def test_known_data_answer_by_themselves():
    def run(mask, lengths):
        x = torch.zeros(2, 4, device="cuda")
        if mask.all():
            x = x + 1
        ends = lengths.cumsum(0)
        return x[:, : int(ends[-1])], x[mask], torch.where(mask)[0], ends.tolist()

    program = capture(run, torch.tensor([[1, 1, 0, 1]] * 2).bool(), torch.tensor([1, 2]))
    assert program.guesses == ()
    assert "add" not in names(program)
    assert [s.call.results[0].shape for s in program.steps if s.call.name == "index"] == [(6,)]


def test_a_loop_over_experts_gives_each_its_share_of_the_tokens():
    def run(x, scores):
        chosen = scores.topk(2, -1).indices
        mask = functional.one_hot(chosen, 8).permute(2, 1, 0)
        for expert in torch.greater(mask.sum(dim=(-1, -2)), 0).nonzero():
            _, rows = torch.where(mask[expert].squeeze(0))
            x.index_add_(0, rows, x[rows])

    program = capture(run, meta(64, 16), meta(64, 8))
    rows = [step.call.operands[-1].shape for step in program.steps if step.call.name == "index_add_"]
    assert rows == [(16, 16)] * 8  # 64 tokens x 2 of 8 experts


def test_values_read_as_lists_are_guessed():
    program = capture(lambda x: x[: x.argmax(-1).tolist()[0]], meta(3, 9))
    assert program.guesses[0].endswith("each of 3 values taken as 4")  # the middle of 9 places


def test_one_known_operand_can_be_enough():
    def run(unknown):
        known = torch.ones(4, dtype=torch.bool, device="cuda")
        running = unknown.long() & ~(known | unknown)
        return unknown if running.max() == 0 else unknown.sum()

    assert capture(run, meta(4, dtype=torch.bool)).guesses == ()


def test_a_loop_that_waits_for_data_ends():
    def run(x):
        while not x.all():
            x = x + 1
        return x

    assert len(capture(run, meta(2)).steps) < 5000


# --- memory


def test_storages_are_freed_by_the_last_step_that_needs_them():
    """A two-layer network in inference, hand-worked: x 2x4, h 2x8, r 2x8, y 2x4 in fp32."""
    first, second = torch.nn.Linear(4, 8, bias=False, **META), torch.nn.Linear(8, 4, bias=False, **META)

    def run(x):
        h = first(x)
        r = torch.relu(h)
        del h
        return second(r)

    with torch.no_grad():
        program = capture(run, meta(2, 4))
    h, r, y = (step.call.results[0] for step in program.steps)
    assert [operand.storage_byte for operand in (h, r, y)] == [64, 64, 32]
    assert [step.frees for step in program.steps] == [(), (h.storage,), (r.storage,)]


def test_what_the_backward_pass_needs_stays():
    first, second = torch.nn.Linear(4, 8, bias=False, **META), torch.nn.Linear(8, 4, bias=False, **META)

    def run(x):
        second(torch.relu(first(x))).sum().backward()

    program = capture(run, meta(2, 4))
    step = {step.call.name: step for step in program.steps}
    rectified = step["relu"].call.results[0].storage
    freed_by = next(s.call.name for s in program.steps if rectified in s.frees)
    assert freed_by == "threshold_backward"
    gradients = {s.call.results[0].storage for s in program.steps if s.phase == "backward" and s.call.name == "mm"}
    assert len(gradients - {f for s in program.steps for f in s.frees}) == 2  # both weights keep theirs


def test_gradients_that_nothing_uses_are_noted():
    layer = torch.nn.Linear(2, 2, **META)
    assert "torch.no_grad()" in capture(layer, meta(1, 2)).notes[0]
    with torch.no_grad():
        assert capture(layer, meta(1, 2)).notes == ()


def test_many_small_calls_are_noted():
    def run(x):
        for _ in range(1200):
            x = x + 1
        return x

    assert capture(run, meta(2)).notes == ("1,200 calls in the program: this implementation loops over parts.",)


# --- models


SMALL = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 128}
MODELS = {
    "llama": {**SMALL, "intermediate_size": 96, "num_key_value_heads": 2},
    "qwen2": {**SMALL, "intermediate_size": 96, "num_key_value_heads": 2},
    "gpt2": {"n_embd": 64, "n_layer": 2, "n_head": 4, "vocab_size": 128, "n_positions": 64},
    "mixtral": {**SMALL, "intermediate_size": 96, "num_key_value_heads": 2, "num_local_experts": 4},
    "mamba": {"hidden_size": 64, "num_hidden_layers": 2, "vocab_size": 128, "state_size": 8},
    "bert": {**SMALL, "intermediate_size": 96, "is_decoder": True},
}
GROUPED = ("_grouped_mm",)  # torch's counter leaves them out


def built(kind, **options):
    transformers = pytest.importorskip("transformers", reason="its models are captured")
    transformers.logging.set_verbosity_error()
    config = transformers.CONFIG_MAPPING[kind](**MODELS[kind])
    with torch.device("meta"):
        return transformers.AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16, **options)


def without_grouped(program):
    kept = tuple(step for step in program.steps if step.call.name not in GROUPED)
    return program._replace(steps=kept)


@pytest.mark.parametrize("kind", MODELS)
def test_products_equal_those_that_torch_counts(kind):
    model, ids = built(kind, attn_implementation="eager").eval(), meta(2, 16, dtype=torch.int64)
    with torch.no_grad():
        expected = counted(lambda: model(input_ids=ids))
        program = capture(model, input_ids=ids)
    assert products(without_grouped(program)) == expected > 0
    assert all(step.module for step in program.steps if step.call.name in ("mm", "addmm", "bmm"))


@pytest.mark.parametrize("kind", ["llama", "gpt2", "mixtral"])
def test_products_of_a_training_step_equal_those_that_torch_counts(kind):
    model, ids = built(kind, attn_implementation="eager"), meta(2, 16, dtype=torch.int64)
    optimizer = torch.optim.AdamW(model.parameters())

    def gradients():
        model(input_ids=ids, labels=ids).loss.backward()

    def step():
        gradients()
        optimizer.step()
        optimizer.zero_grad()

    program = capture(step)
    assert products(without_grouped(program)) == counted(gradients)
    assert {step.phase for step in program.steps} == {"forward", "backward", "optimizer"}
    assert not optimizer.state


def test_a_real_model_is_captured_like_one_on_the_meta_device():
    transformers = pytest.importorskip("transformers")
    config = transformers.LlamaConfig(**MODELS["llama"])
    real, ids = transformers.AutoModelForCausalLM.from_config(config), torch.zeros(1, 8, dtype=torch.int64)
    with torch.device("meta"):
        empty = transformers.AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        assert names(capture(real, input_ids=ids)) == names(capture(empty, input_ids=ids.to("meta")))
        assert real(input_ids=ids).logits.device.type == "cpu"


# --- sizes that are symbols


def total(program, count):
    return sum(getattr(kernel.op, count)() for step in program.steps for kernel in launched(step.call))


def test_a_formula_of_a_linear_layer():
    """2 x 64 x 32 operations a row; the shapes are exact in the names that were given."""
    layer = torch.nn.Linear(64, 32, bias=False, **META)
    program = capture(layer, Spec(("B", Dim("N"), 64), "fp32"))
    B, N = symbol("B"), symbol("N")
    (step,) = program.steps
    assert step.call.results[0][:3] == ((B * N, 32), "fp32", (32, 1))
    assert step.call.results[0].storage_byte == 128 * B * N
    assert products(program) == 4096 * B * N
    assert set(program.dims) == {"B", "N"}


def test_the_formula_of_a_model_gives_its_numbers():
    model = built("llama").eval()
    with torch.no_grad():
        program = capture(model, input_ids=ids("B", "N"))
        for sizes in ({"B": 2, "N": 256}, {"B": 3, "N": 1000}):
            whole = capture(model, input_ids=meta(*sizes.values(), dtype=torch.int64))
            at = {symbol(name): value for name, value in sizes.items()}
            for count in ("flops", "contraction_flops", "traffic_byte"):
                assert total(program, count).subs(at) == total(whole, count)
    assert program.notes == ()


def test_a_program_of_symbols_becomes_one_of_numbers():
    layer = torch.nn.Linear(64, 32, bias=False, **META, dtype=torch.bfloat16)
    with torch.no_grad():
        program, whole = capture(layer, Spec(("N", 64), "bf16")), capture(layer, meta(24, 64, dtype=torch.bfloat16))
    assert program.counts().contraction_flops == 4096 * symbol("N")
    assert program.at(N=24).steps == whole.steps
    assert program.at(N=24).on("h100", "graph").total == whole.on("h100", "graph").total
    assert program.on("h100", "graph").total.contraction_flops == 4096 * program.dims["N"]
    with pytest.raises(InputError, match="the program has no size 'M'"):
        program.at(M=3)


def test_tokens_are_one_sequence():
    with torch.no_grad():
        program = capture(built("gpt2").eval(), tokens=Dim("N", 48))
    assert program.dims == {"N": 48}
    assert program.steps[0].call.results[0].shape[:2] == (1, symbol("N"))


def test_a_size_that_a_program_fixes_is_told():
    def run(x):
        for _ in range(x.shape[0]):
            x = x + 1
        return x if x.shape[1] > 100 else x * 2

    program = capture(run, Spec((Dim("B", 3), Dim("N", 50)), "fp32"))
    assert names(program) == ["add"] * 3 + ["mul"]
    fixed, holds = program.notes
    assert fixed.startswith("B is fixed at 3: its value is used in test_capture.py:")
    assert holds.startswith("The formulas hold for N <= 100 (test_capture.py:")


# --- programs by name

EXAMPLE = """
import torch

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = torch.nn.Linear(8, 4)

    def forward(self, x):
        return self.inner(x)

net = Net()
three = 3

def big():
    return torch.nn.Linear(1 << 20, 1 << 20)  # 4 TB

def with_inputs():
    return Net(), torch.ones(2, 8)

def step():
    net(torch.ones(5, 8)).sum().backward()
"""


@pytest.fixture
def example(tmp_path, monkeypatch):
    (tmp_path / "captured_example.py").write_text(EXAMPLE)
    monkeypatch.chdir(tmp_path)
    yield "captured_example"
    sys.modules.pop("captured_example", None)


def test_a_program_is_found_by_name(example):
    assert names(capture(f"{example}:Net", "bf16[2,8]")) == ["addmm"]
    assert names(capture(f"{example}:net", "x=fp32[2,8]")) == ["addmm"]
    assert names(capture(f"{example}:big", "fp32[2,1048576]")) == ["addmm"]
    assert capture(f"{example}:with_inputs").steps[0].call.results[0].shape == (2, 4)
    assert names(capture(f"{example}:step"))[-1] == "sum"  # the gradient of the bias
    assert capture(f"{example}:net", "fp32[N,8]").steps[0].call.results[0].shape == (symbol("N"), 4)
    program = capture(f"{example}:with_inputs", train=True)
    assert {step.phase for step in program.steps} == {"forward", "backward", "optimizer"}
    assert program.name == "with_inputs"


@pytest.mark.parametrize(
    ("name", "inputs", "message"),
    [
        ("nowhere:f", None, "'nowhere' cannot be imported (ModuleNotFoundError: No module named 'nowhere')"),
        ("nowhere", None, "it does not name a callable; PACKAGE.MODULE:CALLABLE is accepted"),
        (
            "captured_example:bigg",
            None,
            "'captured_example' has no 'bigg'; a torch module, a class or a function is accepted. Did you mean 'big'?",
        ),
        ("captured_example:three", None, "'three' is of type int; a torch module, a class or a function is accepted"),
        ("captured_example:Net", None, "forward() needs x; NAME=TYPE[SIZE,SIZE,...] is accepted"),
        ("captured_example:Net", "bf61[2,8]", "Did you mean 'bf16'?"),
        ("captured_example:Net", "bf16[2,-1]", "'2,-1' is not a list of sizes; NAME=TYPE[SIZE,SIZE,...] is accepted"),
        ("captured_example:Net", "2x8", "'2x8' is not an input; NAME=TYPE[SIZE,SIZE,...] is accepted"),
    ],
)
def test_a_name_or_input_that_cannot_be_used_is_told(example, name, inputs, message):
    with pytest.raises(InputError) as told:
        capture(name, inputs)
    assert message in str(told.value)


@pytest.mark.parametrize("fails", [False, True])
def test_branches_of_a_compiler_are_captured_or_told(fails):
    """A capture under the pretence of a compilation may fail; the program then says so."""

    def step(x):
        if torch.compiler.is_compiling():
            if fails:
                raise KeyError(x)
            return x.exp()
        return x.sin()

    program = capture(step, torch.empty(8, **META))
    assert names(program) == ["sin"]
    assert (program.traced is None) == fails
    assert ["KeyError" in note for note in program.notes] == [True] * fails


@pytest.fixture
def restored():
    """Puts the precision of float32 products back."""
    settings = (torch.backends.cuda.matmul, torch.backends.cudnn.conv)
    before = [setting.fp32_precision for setting in settings]
    yield
    for setting, value in zip(settings, before, strict=True):
        setting.fp32_precision = value


def in_types(target, *given):
    """The types in which a program's kernels compute."""
    return {
        one.dtype for step in capture(target, *given).steps for one in launched(step.call) if one.op.contraction_flops()
    }


def test_products_of_float32_run_in_the_type_that_the_program_chose(restored):
    a = torch.empty(64, 64)
    assert in_types(torch.mm, a, a) == {"fp32"}
    for choose in (
        lambda: torch.set_float32_matmul_precision("high"),
        lambda: setattr(torch.backends.cuda.matmul, "fp32_precision", "tf32"),
    ):
        choose()
        assert in_types(torch.mm, a, a) == in_types(torch.nn.Linear(64, 64), a) == {"tf32"}
        assert in_types(torch.mm, a.half(), a.half()) == {"fp16"}
        torch.backends.cuda.matmul.fp32_precision = "ieee"
        assert in_types(torch.mm, a, a) == {"fp32"}


def test_a_program_may_choose_tf32_for_some_of_its_products(restored):
    def target(a):
        torch.backends.cuda.matmul.fp32_precision = "tf32"
        b = a @ a
        torch.backends.cuda.matmul.fp32_precision = "ieee"
        return b @ b

    assert [step.call.precision for step in capture(target, torch.empty(8, 8)).steps] == ["tf32", "fp32"]


def test_convolutions_of_float32_run_in_tf32_unless_the_program_forbids_it(restored):
    layer, x = torch.nn.Conv2d(8, 8, 3), torch.empty(1, 8, 32, 32)
    assert in_types(layer, x) == {"tf32"}
    torch.backends.cudnn.conv.fp32_precision = "ieee"
    assert in_types(layer, x) == {"fp32"}
