"""Models of transformers, and the counts of torch for them.

Small models run on the processor. The meta device takes longer, because torch computes its shapes in Python.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
from typing import NamedTuple

import torch
import transformers
from torch.utils.flop_counter import FlopCounterMode
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from perfmodel import analyse
from perfmodel.config_files import workload
from perfmodel.importers.families.deepseek import FAMILY as LATENT

LENGTH = 6
# Names of the cache in the inputs and outputs of models, the newest first.
CACHES = ("cache", "past_key_values", "cache_params", "state")
# transformers runs every expert of these models on every token and multiplies by a score, mostly zero.
ALL_EXPERTS = ("llama4", "llama4_text")
# Small sizes by config key. A config uses the keys that it has.
SMALL = {
    "vocab_size": 96, "num_labels": 5, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
    "hidden_size": 32, "n_embd": 32, "d_model": 32, "dim": 32, "word_embed_proj_dim": 24, "embedding_size": 16,
    "num_hidden_layers": 2, "n_layer": 2, "n_layers": 2, "num_layers": 2, "num_decoder_layers": 1, "encoder_layers": 2,
    "decoder_layers": 1, "num_attention_heads": 4, "n_head": 4, "n_heads": 4, "num_heads": 4, "attention_heads": 4,
    "encoder_attention_heads": 4, "decoder_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "d_kv": 8,
    "intermediate_size": 48, "intermediate_size_mlp": 40, "hidden_dim": 48, "ffn_dim": 48, "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48, "d_ff": 48, "n_inner": 48, "n_positions": 64, "max_position_embeddings": 64, "max_seq_len": 64,
    "max_source_positions": LENGTH, "max_target_positions": 16, "rotary_dim": 4, "local_attention": 8,
    "attention_types": [[["global", "local"], 1]], "window_size": 64, "sliding_window": 4, "attention_chunk_size": 16,
    "moe_intermediate_size": 16, "shared_expert_intermediate_size": 24, "shared_intermediate_size": 24,
    "num_experts": 4, "num_local_experts": 4, "moe_num_experts": 4, "n_routed_experts": 4, "num_experts_per_tok": 2,
    "moe_topk": 2, "moe_k": 2, "n_shared_experts": 1, "num_shared_experts": 1, "moe_num_shared_experts": 1,
    "first_k_dense_replace": 1, "moe_layer_end_index": 1, "n_group": 1, "topk_group": 1, "q_lora_rank": 12,
    "kv_lora_rank": 12, "qk_nope_head_dim": 8, "qk_rope_head_dim": 4, "v_head_dim": 8, "image_size": 8, "patch_size": 4,
    "encoder_stride": 4, "num_mel_bins": 10, "classifier_proj_size": 20, "state_size": 4, "attention_hidden_size": 32,
    "time_step_rank": 3,
}  # fmt: skip
HEADS_OF_ALL = {"num_key_value_heads": 4, "head_dim": 4}
# Sizes that follow from others there, and four layers where a pattern of layers is longer than two.
OWN = {
    **dict.fromkeys(LATENT, HEADS_OF_ALL),
    **{kind: {"num_hidden_layers": 4} for kind in ("cohere2", "exaone4", "olmo3", "cwm", "granite_swa", "granitemoe_swa",
                                                   "smollm3", "llama4_text", "modernbert-decoder", "modernbert")},
    "exaone_moe": {"num_hidden_layers": 4, "num_key_value_heads": 2},
    "gemma3_text": {"num_hidden_layers": 7},
    "roberta": {"pad_token_id": 1},
    "t5": {"decoder_start_token_id": 0},
}  # fmt: skip


class Counts(NamedTuple):
    """Parameters, and FLOPs of the products of a forward pass and of one more token. None means no cache."""

    parameters: int
    forward: int
    decode: int | None = None


def configured(kind: str, **more):
    """Returns a small config. Its per-layer lists are shortened to the number of layers."""
    made = transformers.CONFIG_MAPPING[kind]
    known = made().to_dict()
    small = {key: value for key, value in SMALL.items() if key in known or key == "num_labels"}
    return made(**{**small, **OWN.get(kind, {}), **more})


def instance(found, config):
    """Returns a model of this class, with attention and experts as plain products."""
    config._attn_implementation, config._experts_implementation = "eager", "batched_mm"
    return found(config).eval()


def causal(config):
    """Returns the causal language model of a config. For a multimodal config this is its text part."""
    text = config.get_text_config()
    text._experts_implementation = "batched_mm"
    return transformers.AutoModelForCausalLM.from_config(text, attn_implementation="eager").eval()


def causal_kinds() -> tuple[str, ...]:
    """Returns the model types with a causal language model."""
    return tuple(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)


def parameters(model) -> int:
    """Returns the number of parameters. Shared parameters count once."""
    return sum({id(p): p.numel() for p in model.parameters()}.values())


def products(model, **inputs):
    """Returns the FLOPs of matrix products and convolutions of one pass, and its result."""
    with FlopCounterMode(display=False) as mode, torch.no_grad():
        given = model(**inputs)
    return mode.get_total_flops(), given


def counted(model, length: int = LENGTH) -> Counts:
    """Counts a forward pass over a sequence, then one more token if the model returned a cache."""
    tokens = torch.ones(1, length, dtype=torch.long, device=model.device)
    forward, given = products(model, input_ids=tokens)
    name = next((name for name in CACHES if given.get(name) is not None), None)
    decode = products(model, input_ids=tokens[:, :1], **{name: given[name]})[0] if name else None
    return Counts(parameters(model), forward, decode)


def told(path: str, kind: str, length: int | None = LENGTH, *, decode: bool = True) -> Counts:
    """Returns the counts of the importer. Every expert is active, as in models that run all of their experts."""
    given = {} if length is None else {"N": length}
    held = analyse(path, settings=given)
    every = {"A": held.dims["E"]} if kind in ALL_EXPERTS else {}
    forward = analyse(path, settings={**given, **every}) if every else held
    form = "re-expanded" if kind in LATENT else None
    step = analyse(path, phase="decode", form=form, settings={"S": length, **every}) if decode else None
    return Counts(
        held.parameters.total, forward.total.contraction_flops, step.total.contraction_flops if step else None
    )


def strange(path: str) -> list[str]:
    """Returns keys of a config that the importer does not know."""
    return [what for what in workload(path).not_counted if "which is not known here" in what]


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


def classes(kinds):
    """Yields every class of these model types from its module: (model type, class)."""
    for kind in kinds:
        package = transformers.CONFIG_MAPPING[kind].__module__.rsplit(".", 1)[0]
        with contextlib.suppress(ModuleNotFoundError):
            module = importlib.import_module(f"{package}.modeling_{package.rsplit('.', 1)[1]}")
            for name, found in vars(module).items():
                own = getattr(found, "config_class", None) is transformers.CONFIG_MAPPING[kind]
                if own and found.__module__ == module.__name__ and not name.endswith(PARTS):
                    yield kind, found


def inputs(model):
    """Returns the inputs of a forward pass. A sequence ends with its eos token."""
    tokens = torch.ones(1, LENGTH, dtype=torch.long)
    tokens[0, -1] = 2
    names = inspect.signature(model.forward).parameters
    if "pixel_values" in names:
        return {"pixel_values": torch.empty(1, 3, 8, 8)}
    if "input_features" in names:
        found = {"input_features": torch.empty(1, 10, 2 * LENGTH)}
        return found | ({"decoder_input_ids": tokens} if "decoder_input_ids" in names else {})
    if "MultipleChoice" in type(model).__name__:
        return {"input_ids": tokens[None]}
    decoder = type(model).__name__.endswith(("T5ForConditionalGeneration", "T5Model"))
    return {"input_ids": tokens} | ({"decoder_input_ids": tokens} if decoder else {})
