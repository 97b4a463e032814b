"""The heads of every family against the instantiated model: parameters, and the products that torch dispatches.

The models are a few layers of small widths on the meta device: shapes without numbers.
"""

from __future__ import annotations

import importlib
import inspect

import pytest

from perfmodel import analyse
from perfmodel.importers import FAMILIES

torch = pytest.importorskip("torch", reason="the models are instantiated with torch")
counter = pytest.importorskip("torch.utils.flop_counter")
transformers = pytest.importorskip("transformers", reason="the models are those of transformers")

LENGTH, WORDS, LABELS = 6, 96, 5
# Sizes by the names that configs give them; a config takes those that it has.
SMALL = {
    "vocab_size": WORDS, "num_labels": LABELS, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
    "hidden_size": 32, "n_embd": 32, "d_model": 32, "word_embed_proj_dim": 24,
    "num_hidden_layers": 2, "n_layer": 2, "num_layers": 2, "num_decoder_layers": 1, "encoder_layers": 2,
    "decoder_layers": 1, "num_attention_heads": 4, "n_head": 4, "num_heads": 4, "encoder_attention_heads": 4,
    "decoder_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "d_kv": 8, "intermediate_size": 48,
    "ffn_dim": 48, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48, "d_ff": 48, "n_inner": 48, "n_positions": 64,
    "max_position_embeddings": 64, "max_source_positions": LENGTH, "max_target_positions": 16, "rotary_dim": 4,
    "attention_types": [[["global", "local"], 1]], "window_size": 64, "sliding_window": 64,
    "moe_intermediate_size": 16, "shared_expert_intermediate_size": 24, "num_experts": 4, "num_local_experts": 4,
    "n_routed_experts": 4, "num_experts_per_tok": 2, "n_shared_experts": 1, "first_k_dense_replace": 1, "n_group": 1,
    "topk_group": 1, "q_lora_rank": 12, "kv_lora_rank": 12, "qk_nope_head_dim": 8, "qk_rope_head_dim": 4,
    "v_head_dim": 8, "image_size": 8, "patch_size": 4, "encoder_stride": 4, "num_mel_bins": 10,
    "classifier_proj_size": 20, "state_size": 4, "attention_hidden_size": 32,
}  # fmt: skip
LENGTHS = {"vit": {}}
# Sizes that follow from others there.
LATENT = {"num_key_value_heads": 4, "head_dim": 4}
OWN = {"deepseek_v2": LATENT, "deepseek_v3": LATENT, "t5": {"decoder_start_token_id": 0}}
# A whole that also sees, of which the text part is counted.
TEXT_PART = ("gemma3",)
# Classes of one part of a model, which no checkpoint is saved from, and one whose decoder reads no encoder.
PARTS = (
    "PreTrainedModel",
    "T5Stack",
    "OPTDecoder",
    "WhisperEncoder",
    "WhisperDecoder",
    "WhisperDecoderWrapper",
    "WhisperForCausalLM",
)


def configured(kind):
    """A small config, its layer lists made anew for the few layers."""
    made = transformers.CONFIG_MAPPING[kind]
    known = made().to_dict()
    small = {key: value for key, value in SMALL.items() if key in known or key == "num_labels"}
    return made(**{**small, **OWN.get(kind, {})})


def classes():
    """The classes of every model_type that is imported."""
    for kind in FAMILIES:
        if kind in transformers.CONFIG_MAPPING and kind not in TEXT_PART:
            package = transformers.CONFIG_MAPPING[kind].__module__.rsplit(".", 1)[0]
            module = importlib.import_module(f"{package}.modeling_{package.rsplit('.', 1)[1]}")
            for name, found in vars(module).items():
                own = getattr(found, "config_class", None) is transformers.CONFIG_MAPPING[kind]
                if own and found.__module__ == module.__name__ and not name.endswith(PARTS):
                    yield pytest.param(kind, found, id=f"{kind}-{name}")


def inputs(model, device):
    """What a forward pass takes; a sequence ends in its eos token."""
    tokens = torch.ones(1, LENGTH, dtype=torch.long)
    tokens[0, -1] = 2
    tokens = tokens.to(device)
    names = inspect.signature(model.forward).parameters
    if "pixel_values" in names:
        return {"pixel_values": torch.empty(1, 3, 8, 8, device=device)}
    if "input_features" in names:
        found = {"input_features": torch.empty(1, 10, 2 * LENGTH, device=device)}
        return found | ({"decoder_input_ids": tokens} if "decoder_input_ids" in names else {})
    if "MultipleChoice" in type(model).__name__:
        return {"input_ids": tokens[None]}
    decoder = type(model).__name__ == "T5ForConditionalGeneration" or type(model).__name__ == "T5Model"
    return {"input_ids": tokens} | ({"decoder_input_ids": tokens} if decoder else {})


@pytest.mark.parametrize(("kind", "found"), tuple(classes()))
def test_a_class_has_the_counts_of_its_instance(kind, found, tmp_path):
    config = configured(kind)
    config._attn_implementation, config._experts_implementation = "eager", "batched_mm"
    config.architectures = [found.__name__]
    if found.__name__.endswith("QuestionAnswering"):
        config.num_labels = 2  # a start and an end
    config.save_pretrained(tmp_path)
    # One family and one class look at numbers: a scale, and the position of a token.
    device = "cpu" if kind == "gpt2" or found.__name__ == "T5ForSequenceClassification" else "meta"
    with torch.device(device):
        model = found(config).eval()
    with counter.FlopCounterMode(display=False) as mode, torch.no_grad():
        model(**inputs(model, device))
    answer = analyse(str(tmp_path / "config.json"), settings=LENGTHS.get(kind, {"N": LENGTH}))
    assert answer.parameters.total == sum({id(p): p.numel() for p in model.parameters()}.values())
    assert answer.total.contraction_flops == mode.get_total_flops()
