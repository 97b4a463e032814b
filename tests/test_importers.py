"""Importers: defaults, rotary parameters, gates, chunked windows, and names.

Defaults are compared with the config classes of transformers if it is installed, and variants with instantiated models.
"""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path

import pytest
from many import for_each

from perfmodel import analyse
from perfmodel.config_files import workload
from perfmodel.errors import InputError
from perfmodel.importers import FAMILIES, model
from perfmodel.importers.parts import ACTIVATIONS

ROOT = Path(__file__).parent.parent
needs_transformers = pytest.mark.skipif(
    not __import__("importlib.util").util.find_spec("transformers"), reason="the configs are those of transformers"
)


def document(name, **keys):
    return {**json.loads((ROOT / "configs" / f"{name}.json").read_text(encoding="utf-8")), **keys}


def without(name, *keys):
    return {key: value for key, value in document(name).items() if key not in keys}


def written(folder, found, name="config.json"):
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(json.dumps(found), encoding="utf-8")
    return workload(str(folder / name))


# --- rotary positions

TURNED = [
    ("phi-2", {"partial_rotary_factor": 0.4}, 32),
    ("phi-2", {"rope_parameters": {"rope_theta": 1e4, "partial_rotary_factor": 0.4}}, 32),
    ("phi-2", {"rope_parameters": {"rope_theta": 1e4}}, 40),
    ("pythia-160m", {"rotary_pct": 0.5}, 32),
    ("pythia-160m", {"rope_parameters": {"partial_rotary_factor": 0.5}}, 32),
    ("pythia-160m", {}, 16),
    ("phi-4-mini", {"rope_parameters": {"partial_rotary_factor": 0.75}}, 96),
    ("phi-4-mini", {"rope_scaling": {"type": "longrope", "partial_rotary_factor": 0.75}}, 96),
    (
        "phi-4-mini",
        {"rope_parameters": {kind: {"partial_rotary_factor": 0.5} for kind in ("full_attention", "sliding_attention")}},
        64,
    ),
    ("phi-4-mini", {"rope_parameters": None}, 128),
]


@for_each(("name", "keys", "turned"), TURNED)
def test_the_turned_part_of_a_head_is_read_in_both_places(tmp_path, name, keys, turned):
    found = {**without(name, "partial_rotary_factor", "rotary_pct"), **keys}
    sizes = {str(step.sizes["d"]({})) for step in written(tmp_path, found).steps if step.operation.name == "rope"}
    assert sizes == {str(turned)}


def test_layers_that_turn_different_parts_are_refused():
    parts = {"full_attention": {"partial_rotary_factor": 0.5}, "sliding_attention": {"partial_rotary_factor": 1.0}}
    with pytest.raises(InputError, match=r"rope_parameters: found \[0.5, 1.0\]; one partial_rotary_factor for all"):
        model({**without("phi-2", "partial_rotary_factor"), "rope_parameters": parts}, "x")


def test_a_part_that_a_family_does_not_turn_is_told():
    (told,) = model(document("llama-2-7b", rope_parameters={"partial_rotary_factor": 0.5}), "x").not_counted
    assert told.startswith("the config key partial_rotary_factor = 0.5, which is not known here")


# --- keys that are absent

ABSENT = [
    ("deepseek-v2", "q_lora_rank", 1536),
    ("deepseek-v2", "n_shared_experts", 2),
    ("deepseek-v3", "q_lora_rank", 1536),
    ("deepseek-v3", "n_shared_experts", 1),
    ("gpt-oss-20b", "num_key_value_heads", 8),
    ("qwen3-30b-a3b", "num_key_value_heads", 4),
    ("mixtral-8x7b", "num_key_value_heads", 8),
    ("gpt-j-6b", "rotary_dim", 64),
    ("qwen3-0.6b", "head_dim", 128),
]


@for_each(("name", "key", "default"), ABSENT)
def test_an_absent_key_has_the_default_of_its_architecture_and_is_told(tmp_path, name, key, default):
    given, absent = (written(tmp_path, found) for found in ({**document(name), key: default}, without(name, key)))
    assert analyse(given, settings={"N": 8}).total == analyse(absent, settings={"N": 8}).total
    assert f"Not in the config; the default of this model_type is used: {key} = {default}." in absent.notes
    assert not any(note.startswith("Not in the config") for note in given.notes)


def test_a_null_is_no_absent_key():
    """Null means that there is none, or as many as heads."""
    dense = model({**without("deepseek-v2"), "q_lora_rank": None, "n_shared_experts": None}, "x")
    assert not {"layers.experts.attention.q_down", "layers.experts.moe.shared.down"} & {s.name for s in dense.steps}
    assert model(document("gpt-oss-20b", num_key_value_heads=None), "x").sizes["H_kv"] == 64


@pytest.mark.parametrize(("value", "told"), [(None, "null"), (..., "missing")])
def test_a_required_key_that_is_null_is_not_taken_for_another(value, told):
    found = without("llama-2-7b", "hidden_size") if value is ... else document("llama-2-7b", hidden_size=None)
    with pytest.raises(InputError, match=rf"x: 'hidden_size' is {told}; .* Add \"hidden_size\": a whole number\.$"):
        model(found, "x")


def described(found):
    """Everything that the counts depend on."""
    steps = (*found.steps, *(step for steps in (found.decode or {}).values() for step in steps))
    words = [
        (s.name, s.operation.name, {k: size.text for k, size in s.sizes.items()}, s.repeat and s.repeat.text,
         s.windowed, s.tied, s.cached, s.unmasked)
        for s in steps
    ]  # fmt: skip
    return found.title, dict(found.sizes), {phase: dict(sizes) for phase, sizes in found.phases.items()}, words


# Keys that decide whether others are read.
VARIANTS = [
    ("qwen2", {"use_sliding_window": True, "num_hidden_layers": 40}),
    ("qwen2_moe", {"use_sliding_window": True, "num_hidden_layers": 40}),
    ("qwen3", {"use_sliding_window": True, "num_hidden_layers": 40}),
    ("qwen3_moe", {"use_sliding_window": True}),
    ("falcon", {"new_decoder_architecture": True}),
    ("falcon", {"multi_query": False}),
    ("opt", {"do_layer_norm_before": False}),
    ("t5", {"feed_forward_proj": "gated-gelu"}),
    ("gemma2", {"use_bidirectional_attention": True}),
    ("gemma3_text", {"use_bidirectional_attention": True}),
    ("gemma3_text", {"attn_logit_softcapping": 30.0}),
    ("mamba", {"time_step_rank": 7, "hidden_act": "gelu"}),
    ("phi3", {"sliding_window": 100}),
    ("deepseek_v3", {"q_lora_rank": None, "first_k_dense_replace": 0}),
]


def default_config(kind, **keys):
    transformers = pytest.importorskip("transformers")
    if kind not in transformers.CONFIG_MAPPING:
        pytest.skip("this version of transformers has no such model_type")
    found = transformers.CONFIG_MAPPING[kind](**keys).to_dict()
    found = json.loads(json.dumps(found))
    # The class leaves it open.
    return {**found, **({"num_experts_per_tok": 6, "n_group": 8, "topk_group": 3} if kind == "deepseek_v2" else {})}


# A class whose default config names no number of experts, so that transformers cannot build its model.
NO_DEFAULT = ("dots1",)


@needs_transformers
@for_each(("kind", "keys"), [*((kind, {}) for kind in FAMILIES if kind not in NO_DEFAULT), *VARIANTS])
def test_every_default_is_the_config_class_own(kind, keys):
    """Removing a key of the default config changes nothing, or the key is required."""
    whole = default_config(kind, **keys)
    before = described(model(whole, "x"))
    for key in whole.keys() - {"model_type", *keys}:
        try:
            after = described(model({k: v for k, v in whole.items() if k != key}, "x"))
        except InputError as error:
            assert "is missing" in str(error)  # noqa: PT017
        else:
            assert after == before, key


@needs_transformers
@for_each(("kind", "keys"), [*((kind, {}) for kind in FAMILIES if kind not in NO_DEFAULT), *VARIANTS])
def test_a_default_config_holds_nothing_strange(kind, keys):
    assert not any("which is not known here" in told for told in model(default_config(kind, **keys), "x").not_counted)


# --- gates

GATED = {
    "llama-2-7b": "hidden_act", "mistral-7b-v0.1": "hidden_act", "mixtral-8x7b": "hidden_act", "qwen2-7b": "hidden_act",
    "qwen1.5-moe-a2.7b": "hidden_act", "qwen3-0.6b": "hidden_act", "qwen3-30b-a3b": "hidden_act",
    "gemma-2b": "hidden_activation", "phi-4": "hidden_act", "deepseek-v2-lite": "hidden_act",
}  # fmt: skip


@for_each(("name", "word"), [*product(GATED, ACTIVATIONS)])
def test_every_activation_can_be_a_gate(tmp_path, name, word):
    found = written(tmp_path, document(name, **{GATED[name]: word}))
    gates = {step.operation.name for step in found.steps if step.name.endswith(".gate")}
    assert gates == {f"{ACTIVATIONS[word]}_gate"}


@pytest.mark.parametrize("word", ["relu", "silu", "tanh"])
def test_every_activation_can_be_the_gate_of_a_t5(tmp_path, word):
    found = written(tmp_path, document("t5-small", feed_forward_proj=f"gated-{word}"))
    assert f"{word}_gate" in {step.operation.name for step in found.steps}
    assert analyse(found, phase="train", settings={"N": 8}).total.flops > 0


# --- variants against the instantiated model

SMALL = {
    "vocab_size": 96, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 6, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "sliding_window": 4, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip


def instance(name, **keys):
    """Returns the small model of a class, and the workload of its saved config."""
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    found = getattr(transformers, name)
    config = found.config_class(**(keys if "text_config" in keys else {**SMALL, **keys}))
    config._attn_implementation, config._experts_implementation = "eager", "batched_mm"
    config.architectures = [name]
    with torch.device("meta"):
        return found(config).eval(), config.to_dict()


def forward(model, tokens):
    torch = pytest.importorskip("torch")
    counter = pytest.importorskip("torch.utils.flop_counter")
    with counter.FlopCounterMode(display=False) as mode, torch.no_grad():
        model(torch.ones(1, tokens, dtype=torch.long, device="meta"))
    return mode.get_total_flops()


@needs_transformers
def test_attention_both_ways_sees_all_pairs(tmp_path):
    """The window is a mask, and there is no cache for decoding."""
    whole, config = instance("Gemma3TextModel", use_bidirectional_attention=True)
    found = written(tmp_path, config)
    answers = [analyse(found, settings={"N": 12}, causal=causal).total.contraction_flops for causal in (False, True)]
    assert answers == [forward(whole, 12)] * 2
    assert set(found.phases) == {"prefill", "train"}
    assert analyse(found).kv_cache_byte_per_token == 0


@needs_transformers
@pytest.mark.parametrize("name", ["Gemma3Model", "Gemma3ForConditionalGeneration", "Gemma3ForSequenceClassification"])
def test_the_text_part_of_a_model_that_sees(tmp_path, name):
    """The whole model has the class and labels. A prompt without images does not use the vision tower."""
    vision = {
        "hidden_size": 8,
        "intermediate_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 1,
        "image_size": 28,
    }
    text = {**SMALL, "sliding_window": 64}
    whole, config = instance(name, text_config=text, vision_config=vision, num_labels=5)
    answer = analyse(written(tmp_path, config), settings={"N": 12})
    held = {id(p): p.numel() for key, p in whole.named_parameters() if "vision" not in key and "multi_modal" not in key}
    assert answer.parameters.total == sum(held.values())
    assert answer.total.contraction_flops == forward(whole, 12)
    assert answer.not_counted == ("the vision tower",)


@needs_transformers
@pytest.mark.parametrize("bias", [False, True])
def test_biases_of_the_networks_of_deepseek_v2(tmp_path, bias):
    latent = {"num_key_value_heads": 4, "head_dim": 4, "kv_lora_rank": 12, "q_lora_rank": 12, "qk_nope_head_dim": 8,
              "qk_rope_head_dim": 4, "v_head_dim": 8, "n_group": 1, "topk_group": 1, "sliding_window": None}  # fmt: skip
    routed = {"n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "first_k_dense_replace": 2}
    whole, config = instance("DeepseekV2ForCausalLM", mlp_bias=bias, **latent, **routed)
    answer = analyse(written(tmp_path, config), settings={"N": 12})
    assert answer.parameters.total == sum(p.numel() for p in whole.parameters())
    assert answer.total.contraction_flops == forward(whole, 12)
    assert answer.not_counted == ()


@needs_transformers
@pytest.mark.parametrize("taps", [3, 4])
@pytest.mark.parametrize("tokens", [1, 2, 5])
def test_a_step_of_mamba_convolves_what_its_kernel_does(tmp_path, taps, tokens):
    """One token convolves two positions. Several tokens are padded again after the state."""
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    counter = pytest.importorskip("torch.utils.flop_counter")
    config = transformers.MambaConfig(
        hidden_size=16, num_hidden_layers=2, vocab_size=50, state_size=4, conv_kernel=taps
    )
    config.architectures = ["MambaForCausalLM"]
    whole = transformers.MambaForCausalLM(config).eval()
    with torch.no_grad():
        first = whole(torch.ones(1, 6, dtype=torch.long), use_cache=True)
        held = {name: first[name] for name in ("cache", "cache_params") if name in first.keys()}  # noqa: SIM118
        held = dict([*held.items()][:1])  # the newer name of the two
        with counter.FlopCounterMode(display=False) as mode:
            whole(torch.ones(1, tokens, dtype=torch.long), use_cache=True, **held)
    convolved = {str(name): count for name, count in mode.get_flop_counts()["Global"].items()}["aten.convolution"]
    rows = analyse(written(tmp_path, config.to_dict()), phase="decode", settings={"N": tokens}).rows
    assert sum(row.contraction_flops * row.repeat for row in rows if row.name.endswith("mixer.conv")) == convolved


# --- a chunk of a prompt

WINDOWS = ["mistral-7b-v0.1", "phi-3-mini-4k", "gemma-2-2b", "gemma-3-1b", "gpt-oss-20b"]


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("name", WINDOWS)
def test_a_chunk_of_a_prompt_counts_as_a_step_of_as_many_tokens(name, causal):
    """S counts all keys: 64 including the 16 of the chunk, and in a decoding step the 48 cached before."""
    prompt = analyse(name, settings={"N": 16, "S": 64, "W": 8}, causal=causal)
    step = analyse(name, phase="decode", settings={"N": 16, "S": 48, "W": 8}, causal=causal)
    assert [(row.name, row.flops, row.traffic_byte) for row in prompt.rows] == [
        (row.name, row.flops, row.traffic_byte) for row in step.rows
    ]


def test_a_chunk_drops_the_keys_before_its_window():
    """16 queries with a window of 8: 8 + 15 keys in memory, 4 x 16 x 23 x 32 x 128 FLOPs per layer in both products."""
    rows = analyse("mistral-7b-v0.1", settings={"N": 16, "S": 64, "W": 8}, causal=False).rows
    (attention,) = (row for row in rows if row.name == "layers.attention")
    assert attention.contraction_flops == 4 * 16 * 23 * 32 * 128


# --- gradients of data


@pytest.mark.parametrize(
    ("name", "step", "saved"),
    [
        # 196 patches of 768 pixels to a width of 768, 2 FLOPs a multiply-add.
        ("vit-base-patch16-224", "embed.patches", 231_211_008),
        # 3000 frames of 80 bands to a width of 512 by 3 taps.
        ("whisper-base", "encoder.conv1", 2 * 3000 * 80 * 512 * 3),
    ],
)
@pytest.mark.parametrize("fused", [False, True])
def test_data_needs_no_gradient(name, step, saved, fused):
    """The first step computes its product forward and the gradient of its weights only."""
    rows = analyse(name, phase="train", fused=fused).rows
    first = [row for row in rows if row.name.startswith(step) and row.contraction_flops]
    assert sum(row.contraction_flops for row in first if "backward" not in row.name) == saved
    assert sum(row.contraction_flops for row in first if "backward" in row.name) == saved
    assert not any({"dx"} & row.tensors.keys() for row in first)


DATA = """
title: a layer fed by data
dtype: fp16
sizes: {{B: 1, N: 4, D: 8, F: 6}}
steps:
  - op: linear
    sizes: {{D_in: D, D_out: F}}
    flow: {{x: pixels, y: out}}
{more}"""


@pytest.mark.parametrize(("more", "products"), [("", 3), ("    data: [x]\n", 2)])
def test_a_file_names_its_data(tmp_path, more, products):
    (tmp_path / "first.yaml").write_text(DATA.format(more=more), encoding="utf-8")
    total = analyse(str(tmp_path / "first.yaml"), phase="train").total
    assert total.contraction_flops == products * 2 * 4 * 8 * 6


def test_data_that_is_no_tensor_is_refused(tmp_path):
    (tmp_path / "first.yaml").write_text(DATA.format(more="    data: [z]\n"), encoding="utf-8")
    with pytest.raises(
        InputError, match=r"first\.yaml:9: steps\.data: 'z' is not a tensor of linear; its tensors are w, x, y"
    ):
        workload(str(tmp_path / "first.yaml"))


# --- names


@pytest.mark.parametrize(
    ("file", "keys", "called"),
    [
        ("config.json", {}, "folder"),
        ("config.json", {"_name_or_path": "meta-llama/Llama-2-7b-hf"}, "Llama-2-7b-hf"),
        ("config.json", {"_name_or_path": "/data/runs/"}, "runs"),
        ("mine.json", {"_name_or_path": "meta-llama/Llama-2-7b-hf"}, "mine"),
    ],
)
def test_a_title_names_what_was_asked_for(tmp_path, file, keys, called):
    found = written(tmp_path / "folder", document("llama-2-7b", **keys), file)
    assert (found.name, found.title) == (called, f"{called}: Llama of 32 layers and width 4096")


def test_two_models_of_one_shape_have_two_titles():
    assert workload("llama-3-70b").title == "llama-3-70b: Llama of 80 layers and width 8192"
    assert workload("llama-3.1-70b").title == "llama-3.1-70b: Llama of 80 layers and width 8192"


@pytest.mark.parametrize(("multi_query", "heads"), [(True, 1), (False, 4)])
def test_gpt_bigcode_has_one_key_value_head_or_all(multi_query, heads):
    """Its flag decides; num_key_value_heads is not read by the model."""
    document = {
        "model_type": "gpt_bigcode", "architectures": ["GPTBigCodeForCausalLM"], "n_embd": 32, "n_head": 4, "n_layer": 1,
        "n_positions": 64, "vocab_size": 100, "multi_query": multi_query, "num_key_value_heads": 2,
    }  # fmt: skip
    assert model(document, "config.json").sizes["H_kv"] == heads
