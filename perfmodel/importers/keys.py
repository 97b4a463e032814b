"""Keys of a config.json that no importer reads, and whether they can change a count.

There are three kinds: keys that never change a count, keys that do not at one value, and features that are known but
not counted. Any other unread key is reported, or refused where it looks like a misspelling.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

# Token ids, dropout (counts exclude it), constants of norms and initial weights.
HARMLESS_ENDINGS = re.compile(
    r".*(_token_ids?|dropout|dropout_prob|dropout_rate|_pdrop|layerdrop|_eps|_epsilon|_std|_coef|_token_index)"
)

_HARMLESS = (
    # Origin of the file, and how it is loaded and run.
    "model_type _name_or_path _commit_hash _attn_implementation _attn_implementation_autoset attn_implementation architectures "
    "transformers_version torch_dtype dtype tokenizer_class model_max_length use_cache cache_implementation "
    "gradient_checkpointing torchscript return_dict use_return_dict output_attentions output_hidden_states "
    "output_router_logits output_past is_encoder_decoder is_decoder pretraining_tp slow_but_exact attention_softmax_in_fp32 "
    "bias_dropout_fusion masked_softmax_fusion skip_bias_add skip_bias_add_qkv fused_add_norm use_mambapy "
    "chunk_size_feed_forward use_bfloat16 tf_legacy_loss auto_map reorder_and_upcast_attn use_associative_scan "
    # Initial weights and training.
    "initializer_range initializer_factor init_std dropout label_smoothing rescale_prenorm_residual time_step_floor "
    "time_step_init_scheme time_step_max time_step_min time_step_scale time_step_limit mask_feature_length mask_feature_min_masks "
    "mask_feature_prob mask_time_length mask_time_min_masks mask_time_prob apply_spec_augment problem_type finetuning_task "
    "label2id id2label num_labels seq_aux "
    # Computed positions: another base or scale of the angles needs the same arithmetic.
    "rope_theta rope_scaling rope_parameters rotary_emb_base rope_local_base_freq original_max_position_embeddings "
    "max_position_embeddings initial_context_length context_length n_ctx n_positions offset_alibi "
    "relative_attention_max_distance max_window_layers rope_interleave "
    # Constants of arithmetic operations, and the order in which residuals are added.
    "query_pre_attn_scalar scale_embedding scale_attn_weights routed_scaling_factor swiglu_limit swiglu_alpha router_jitter_noise norm_topk_prob n_group "
    "attention_multiplier router_scaling_factor moe_norm_min attn_scale attn_temperature_tuning floor_scale input_jitter_noise "
    "initializer_cutoff_factor embedding_initializer_range qk_head_dim layer_rope_theta scale_attention_softmax_in_fp32 "
    "enable_moe_fp32_combine init_device aux_loss_alpha ep_size dim_model_base scale_emb scale_depth "
    "topk_group topk_method scoring_func rescale_every apply_residual_connection_post_layernorm residual_in_fp32 "
    "pad_vocab_size_multiple median_filter_width "
    # Heads of other tasks (the head of the named task reads its own keys), and generation.
    "tie_word_embeddings token_classification_bias pooler_act pooler_output_size encoder_stride classifier_proj_size summary_activation summary_first_dropout summary_proj_to_labels summary_type summary_use_proj "
    "task_specific_params prefix max_length min_length do_sample early_stopping num_beams num_beam_groups diversity_penalty "
    "temperature top_k top_p typical_p repetition_penalty length_penalty no_repeat_ngram_size encoder_no_repeat_ngram_size "
    "bad_words_ids num_return_sequences output_scores return_dict_in_generate forced_decoder_ids suppress_tokens "
    "begin_suppress_tokens remove_invalid_values exponential_decay_length_penalty decoder_start_token_id"
)
HARMLESS = frozenset(_HARMLESS.split())

# Values at which a key does not change the counts.
NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "add_cross_attention": (False,),
    "alibi": (False,),
    "attention_bias": (False,),
    "attn_logit_softcapping": (),
    "final_logit_softcapping": (),
    "mlp_bias": (False,),
    "moe_layer_freq": (1,),
    "position_embedding_type": ("absolute",),
    "pruned_heads": ({},),
    "rms_norm": (True,),
    "rotary": (True,),
    "scale_attn_by_inverse_layer_idx": (False,),
    "sliding_window_pattern": (6,),
    "tie_encoder_decoder": (False,),
    "use_bidirectional_attention": (False,),
    "use_sliding_window": (False,),
    "use_weighted_layer_sum": (False,),
}

# Keys that a model_type has but does not use: other names of a size, or sizes of an absent part.
UNREAD: Mapping[str, frozenset[str]] = {
    "falcon": frozenset({"num_kv_heads", "ffn_hidden_size", "multi_query", "parallel_attn"}),
    "gemma3": frozenset({"mm_tokens_per_image", "text_config", "boi_token_index", "eoi_token_index"}),
    "gpt_neo": frozenset({"attention_types"}),
    "llama4": frozenset({"boi_token_index", "eoi_token_index", "image_token_index", "text_config"}),
    "mamba": frozenset({"n_layer", "d_model", "d_inner", "ssm_cfg"}),
    "mistral3": frozenset(
        {
            "image_token_index", "multimodal_projector_bias", "projector_hidden_act", "spatial_merge_size", "text_config",
            "vision_feature_layer",
        }
    ),
    "whisper": frozenset({"num_hidden_layers"}),
}  # fmt: skip

# Keys of features that are known but not counted.
UNCOUNTED = {
    "num_nextn_predict_layers": "the layers that predict further tokens in training",
    "vision_config": "the vision tower",
    "audio_config": "the audio tower",
}


def unread(unasked: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """The unread keys that may change a count, with their values."""
    return {key: value for key, value in unasked.items() if value is not None and not _harmless(key, value, kind)}


def _harmless(key: str, value: Any, kind: str) -> bool:
    known = key in HARMLESS or key in UNCOUNTED or key in UNREAD.get(kind, ())
    return known or bool(HARMLESS_ENDINGS.fullmatch(key)) or value in NEUTRAL.get(key, ())
