"""What each decoder does otherwise than Llama: one description a model_type, read by ``families.decoder``."""

from __future__ import annotations

from collections.abc import Mapping

from perfmodel.importers.description import Decoder, Experts, Windows

LLAMA = Decoder(mlp_bias="mlp_bias")
PLAIN = Decoder(qkv_bias=False, out_bias=False)
MISTRAL = PLAIN._replace(name="Mistral", own={"num_key_value_heads": 8, "sliding_window": 4096}, windows=Windows())
LATER_MISTRAL = PLAIN._replace(name="Ministral 3", own={"num_key_value_heads": 8, "head_dim": 128}, windows=Windows())
MIXTRAL = MISTRAL._replace(
    name="Mixtral",
    own={"num_key_value_heads": 8, "num_local_experts": 8, "num_experts_per_tok": 2},
    experts=Experts("num_local_experts", width="intermediate_size"),
)
QWEN2 = PLAIN._replace(
    name="Qwen 2",
    qkv_bias=True,
    own={"max_window_layers": 28, "sliding_window": 4096, "num_key_value_heads": 32},
    windows=Windows(switch="use_sliding_window", after="max_window_layers"),
)
QWEN2_MOE = QWEN2._replace(
    name="Qwen 2 with experts",
    qkv_bias="qkv_bias",
    own={
        **QWEN2.own, "num_key_value_heads": 16, "qkv_bias": True, "num_experts": 60, "num_experts_per_tok": 4,
        "shared_expert_intermediate_size": 5632,
    },
    windows=Windows(every=2, switch="use_sliding_window", before="max_window_layers"),
    experts=Experts(
        plain="mlp_only_layers", every="decoder_sparse_step",
        shared_width="shared_expert_intermediate_size", shared_gate=True,
    ),
)  # fmt: skip
QWEN3 = LLAMA._replace(
    name="Qwen 3", mlp_bias=False, qk_normed=True, own={**QWEN2.own, "head_dim": 128}, windows=QWEN2.windows
)
QWEN3_MOE = QWEN3._replace(
    name="Qwen 3 with experts",
    own={"sliding_window": 4096, "num_key_value_heads": 4, "num_experts": 128, "num_experts_per_tok": 8},
    windows=Windows(switch="use_sliding_window"),
    experts=Experts(plain="mlp_only_layers", every="decoder_sparse_step"),
)
GEMMA = LLAMA._replace(
    name="Gemma 1", mlp_bias=False, keys={"hidden_act": "hidden_activation"}, own={"num_key_value_heads": 16, "head_dim": 256}, unread="hidden_act",
    activation="gelu_pytorch_tanh", embedding_scaled=True, tied=True,
    both_ways="use_bidirectional_attention",
)  # fmt: skip
GEMMA2 = GEMMA._replace(
    name="Gemma 2",
    unread="hidden_act sliding_window_size",
    after=True,
    own={
        "num_key_value_heads": 4, "head_dim": 256, "sliding_window": 4096, "attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0,
    },
    windows=Windows(every=2),
    softcapped=True,
)  # fmt: skip
GEMMA3 = GEMMA._replace(
    name="Gemma 3",
    part="text_config",
    after=True,
    qk_normed=True,
    own={
        "hidden_size": 2304, "intermediate_size": 9216, "num_hidden_layers": 26, "num_attention_heads": 8,
        "num_key_value_heads": 4, "head_dim": 256, "vocab_size": 262208, "sliding_window": 4096,
    },
    windows=Windows(every=6, key="sliding_window_pattern"),
    softcapped=True,
)  # fmt: skip
VAULT_GEMMA = GEMMA2._replace(name="VaultGemma", after=False)
PHI3 = PLAIN._replace(name="Phi 3", turned_key="partial_rotary_factor", windows=Windows())
PHI = Decoder(
    name="Phi", norm="layernorm", parallel=True, one_norm=True, qkv_bias=True, out_bias=True, qk_norm="layernorm",
    qk_normed="qk_layernorm", turned=0.5, gated=False, activation="gelu_new", mlp_bias=True, head_bias=True,
)  # fmt: skip
PHI_MOE = LLAMA._replace(
    name="Phi 3.5 with experts",
    mlp_bias=False,
    norm="layernorm",
    own={"num_key_value_heads": 8, "num_local_experts": 16, "num_experts_per_tok": 2},
    windows=Windows(),
    experts=Experts("num_local_experts", width="intermediate_size"),
    head_bias="lm_head_bias",
)
GPT_NEOX = Decoder(
    name="GPT-NeoX", norm="layernorm", parallel="use_parallel_residual", qkv_bias="attention_bias", out_bias="attention_bias",
    own={"attention_bias": True, "use_parallel_residual": True}, turned=0.25,
    turned_key="rotary_pct", gated=False, activation="gelu", mlp_bias=True,
)  # fmt: skip
GPT = {
    "hidden_size": "n_embd", "num_attention_heads": "n_head", "num_hidden_layers": "n_layer",
    "intermediate_size": "n_inner", "hidden_act": "activation_function", "max_position_embeddings": "n_positions",
}  # fmt: skip
GPT_J = PHI._replace(
    name="GPT-J",
    keys=GPT,
    qkv_bias=False,
    out_bias=False,
    qk_normed=False,
    turned_size="rotary_dim",
    widening=4,
    own={"rotary_dim": 64},
)
GPT_BIGCODE = Decoder(
    name="GPT BigCode", keys=GPT, norm="layernorm", qkv_bias=True, out_bias=True, single_head="multi_query",
    positions="learned", gated=False, activation="gelu_pytorch_tanh", widening=4, mlp_bias=True, tied=True,
    unread="num_key_value_heads", refused="add_cross_attention",
)  # fmt: skip
GPT2 = GPT_BIGCODE._replace(name="GPT-2", single_head="", activation="gelu_new", choices=True, unread="")
OPENAI_GPT = GPT_BIGCODE._replace(
    name="GPT", keys={**GPT, "hidden_act": "afn"}, outer=True, before=False, single_head="", activation="gelu",
    activations={"gelu": "gelu_tanh"}, choices=True, unread="",
)  # fmt: skip
BIO_GPT = Decoder(
    name="BioGPT", norm="layernorm", qkv_bias=True, out_bias=True, positions="learned", offset=2, gated=False,
    activation="gelu", mlp_bias=True, embedding_scaled="scale_embedding", own={"scale_embedding": True}, tied=True,
)  # fmt: skip
XGLM = BIO_GPT._replace(
    name="XGLM",
    positions="computed",
    refused="add_cross_attention",
    keys={
        "hidden_size": "d_model", "num_attention_heads": "attention_heads", "num_hidden_layers": "num_layers",
        "intermediate_size": "ffn_dim", "hidden_act": "activation_function",
    },
)  # fmt: skip
BLOOM = Decoder(
    name="BLOOM", keys={**GPT, "hidden_size": "hidden_size"}, norm="layernorm", qkv_bias=True, out_bias=True,
    positions="slopes", gated=False, activation="gelu_new", widening=4, mlp_bias=True, embedding_norm=True, tied=True,
)  # fmt: skip
MPT = Decoder(
    name="MPT", norm="layernorm_unbiased", qkv_bias=False, out_bias=False, positions="slopes", gated=False,
    activation="gelu", widening=4, tied=True,
    keys={"hidden_size": "d_model", "num_attention_heads": "n_heads", "num_hidden_layers": "n_layers",
          "max_position_embeddings": "max_seq_len"},
    unread="max_seq_len embedding_fraction learned_pos_emb no_bias norm_type expansion_ratio attn_config",
)  # fmt: skip
STARCODER2 = Decoder(
    name="StarCoder 2", norm="layernorm", qkv_bias="use_bias", out_bias="use_bias", mlp_bias="use_bias", gated=False,
    own={"use_bias": True, "num_key_value_heads": 2}, activation="gelu_pytorch_tanh", windows=Windows(), tied=True,
)  # fmt: skip
PERSIMMON = PHI._replace(
    name="Persimmon", parallel=False, one_norm=False, own={"qk_layernorm": True}, activation="relu2", head_bias=False
)
STABLE_LM = LLAMA._replace(
    name="StableLM", own={"num_key_value_heads": 32}, norm="layernorm", parallel="use_parallel_residual", one_norm=True, qkv_bias="use_qkv_bias",
    out_bias=False, qk_norm="layernorm_unbiased", qk_normed="qk_layernorm", qk_width=True, turned=0.25, mlp_bias=False,
)  # fmt: skip
NEMOTRON = LLAMA._replace(name="Nemotron", norm="layernorm", turned=0.5, gated=False, activation="relu2")
JAIS2 = NEMOTRON._replace(name="Jais 2", turned=1.0, own={"attention_bias": True, "mlp_bias": True})
ARCEE = LLAMA._replace(name="Arcee", gated=False, activation="relu2")
NANO_CHAT = LLAMA._replace(
    name="nanochat", norm="rmsnorm_plain", qk_norm="rmsnorm_plain", qk_normed=True, gated=False, activation="relu2",
    mlp_bias=False, embedding_norm=True, softcapped=True, own={"final_logit_softcapping": 15.0},
)  # fmt: skip
COHERE = LLAMA._replace(
    name="Cohere", norm="layernorm_unbiased", parallel=True, one_norm=True, qk_norm="layernorm_unbiased",
    qk_normed="use_qk_norm", qk_width=True, mlp_bias=False, logit_factor="logit_scale", tied=True, own={"logit_scale": 0.0625},
)  # fmt: skip
COHERE2 = COHERE._replace(
    name="Cohere 2", qk_normed=False, own={"logit_scale": 0.0625, "sliding_window": 4096}, windows=Windows(every=4, key="sliding_window_pattern"),
    unturned="full", unread="head_dim",
)  # fmt: skip
OLMO = LLAMA._replace(name="OLMo", norm="layernorm_plain", mlp_bias=False)
OLMO2 = LLAMA._replace(name="OLMo 2", before=False, after=True, qk_normed=True, qk_width=True, mlp_bias=False)
OLMO3 = OLMO2._replace(name="OLMo 3", own={"sliding_window": 4096}, windows=Windows(every=4))
OLMOE = OLMO2._replace(
    name="OLMoE", before=True, after=False, own={"num_experts": 64, "num_experts_per_tok": 8},
    experts=Experts(width="intermediate_size"),
)  # fmt: skip
FLEX_OLMO = OLMO2._replace(
    name="FlexOlmo", own={"num_experts": 7, "num_experts_per_tok": 5}, experts=Experts(width="intermediate_size")
)
GRANITE = LLAMA._replace(
    name="Granite", embedding_scaled="embedding_multiplier", residual_factor="residual_multiplier",
    logit_factor="logits_scaling",
)  # fmt: skip
GRANITE_SWA = GRANITE._replace(
    name="Granite with windows",
    sinks=True,
    tied=True,
    own={"num_key_value_heads": 4, "sliding_window": 128},
    windows=Windows(every=4, first=True),
)
GRANITE_MOE = GRANITE._replace(
    name="Granite with experts",
    mlp_bias=False,
    own={"num_local_experts": 8, "num_experts_per_tok": 2},
    experts=Experts("num_local_experts", width="intermediate_size"),
)
GRANITE_MOE_SHARED = GRANITE_MOE._replace(
    experts=Experts("num_local_experts", width="intermediate_size", shared_width="shared_intermediate_size")
)
GRANITE_MOE_SWA = GRANITE_MOE_SHARED._replace(
    name="Granite with experts and windows", sinks=True, own={**GRANITE_MOE.own, "sliding_window": 128},
    windows=GRANITE_SWA.windows,
)  # fmt: skip
HYPERCLOVA = GRANITE._replace(name="HyperCLOVA X", after="use_post_norm", own={"use_post_norm": True})
HELIUM = LLAMA._replace(name="Helium", out_bias=False, square=True, own={"num_key_value_heads": 20, "head_dim": 128})
GLM = HELIUM._replace(
    name="GLM",
    square=False,
    own={"attention_bias": True, "num_key_value_heads": 2, "head_dim": 128},
    turned=0.5,
    mlp_bias=False,
)
GLM4 = GLM._replace(name="GLM 4", after=True)
DEEPSEEK_EXPERTS = Experts("n_routed_experts", first="first_k_dense_replace", shared="n_shared_experts")
GLM4_MOE = GLM._replace(
    name="GLM 4 with experts",
    qk_normed="use_qk_norm",
    uneven=True,
    own={
        "num_key_value_heads": 8, "n_routed_experts": 128, "num_experts_per_tok": 8, "n_shared_experts": 1,
        "first_k_dense_replace": 1, "moe_intermediate_size": 1408,
    },
    turned=0.5,
    experts=DEEPSEEK_EXPERTS,
)  # fmt: skip
SARVAM_MOE = GLM4_MOE._replace(
    name="Sarvam with experts",
    own={
        "num_key_value_heads": 4, "head_dim": 64, "n_routed_experts": 128, "num_experts_per_tok": 6, "n_shared_experts": 1,
        "first_k_dense_replace": 1, "moe_intermediate_size": 1024, "use_qk_norm": True,
    },
    turned=1.0, turned_key="partial_rotary_factor",
)  # fmt: skip
SOLAR = GLM._replace(
    name="Solar Open",
    own={
        "num_key_value_heads": 8, "head_dim": 128, "n_routed_experts": 128, "num_experts_per_tok": 8,
        "n_shared_experts": 1, "moe_intermediate_size": 1280,
    },
    turned=1.0,
    experts=Experts("n_routed_experts", shared="n_shared_experts"),
)  # fmt: skip
DOTS1 = LLAMA._replace(
    name="dots.llm1", mlp_bias=False, qk_normed=True, own={"num_key_value_heads": 32, "sliding_window": 4096, "max_window_layers": 62},
    windows=Windows(after="max_window_layers"), experts=DEEPSEEK_EXPERTS,
)  # fmt: skip
MELLUM = LLAMA._replace(
    name="Mellum", mlp_bias=False, qk_normed=True, windows=Windows(every=1),
    own={"num_key_value_heads": 4, "head_dim": 128, "num_local_experts": 64, "num_experts_per_tok": 8,
         "moe_intermediate_size": 896, "sliding_window": 1024},
    experts=Experts("num_local_experts", typed=True),
)  # fmt: skip
HY3 = LLAMA._replace(
    name="Hunyuan 3", qk_normed=True,
    own={"num_key_value_heads": 8, "head_dim": 128, "num_experts": 192, "num_experts_per_tok": 8,
         "num_shared_experts": 1, "moe_intermediate_size": 1536},
    experts=Experts(typed=True, first=1, shared="num_shared_experts"),
)  # fmt: skip
HUNYUAN = LLAMA._replace(name="Hunyuan", mlp_bias=False, qk_normed=True)
HUNYUAN_MOE = HUNYUAN._replace(
    name="Hunyuan with experts", own={"num_experts": 1, "moe_topk": 1},
    experts=Experts(chosen="moe_topk", width="intermediate_size", shared=1),
)  # fmt: skip
ERNIE45 = Decoder(
    name="ERNIE 4.5", qkv_bias="use_bias", out_bias="use_bias", mlp_bias="use_bias", tied=True,
    own={"num_key_value_heads": 2, "head_dim": 128},
)  # fmt: skip
ERNIE45_MOE = ERNIE45._replace(
    name="ERNIE 4.5 with experts",
    own={
        "num_key_value_heads": 4, "moe_num_experts": 64, "moe_k": 6, "moe_num_shared_experts": 2,
        "moe_layer_start_index": 1, "moe_layer_interval": 1, "moe_intermediate_size": 1536,
    },
    experts=Experts(
        "moe_num_experts", "moe_k", first="moe_layer_start_index", last="moe_layer_end_index", every="moe_layer_interval",
        shared="moe_num_shared_experts", correction=True,
    ),
    head_bias="use_bias",
)  # fmt: skip
ARIA = LLAMA._replace(
    name="Aria", own={"moe_num_experts": 8, "moe_topk": 2, "moe_num_shared_experts": 2},
    experts=Experts("moe_num_experts", "moe_topk", "intermediate_size", shared="moe_num_shared_experts"),
)  # fmt: skip
MINIMAX_M2 = PLAIN._replace(
    name="MiniMax M2", turned_key="partial_rotary_factor", qk_normed=True, qk_width=True,
    own={"num_key_value_heads": 8, "head_dim": 128, "num_local_experts": 256, "num_experts_per_tok": 8},
    experts=Experts("num_local_experts", width="intermediate_size"),
)  # fmt: skip
EXAONE4 = PLAIN._replace(
    name="EXAONE 4", before=False, after=True, qk_normed=True, own={"num_key_value_heads": 32, "sliding_window": 4096},
    windows=Windows(every=4, key="sliding_window_pattern"), unturned="full",
)  # fmt: skip
EXAONE_MOE = EXAONE4._replace(
    name="EXAONE with experts", before=True, after=False,
    own={**EXAONE4.own, "num_experts": 64, "num_experts_per_tok": 8, "num_shared_experts": 1, "first_k_dense_replace": 1,
         "moe_intermediate_size": 1024},
    experts=Experts(typed=True, first="first_k_dense_replace", shared="num_shared_experts"),
)  # fmt: skip
SMOLLM3 = LLAMA._replace(
    name="SmolLM 3", own={"num_key_value_heads": 4}, unturned="no_rope_layers", tied=True,
    windows=Windows(switch="use_sliding_window"),
)  # fmt: skip
SEED_OSS = LLAMA._replace(
    name="Seed-OSS",
    out_bias="attention_out_bias",
    own={"attention_bias": True, "num_key_value_heads": 8, "head_dim": 128},
)
CWM = PLAIN._replace(
    name="CWM", own={"num_key_value_heads": 8, "head_dim": 128, "sliding_window": 8192},
    windows=Windows(every=4, first=True),
)  # fmt: skip
LLAMA4 = LLAMA._replace(
    name="Llama 4",
    part="text_config",
    keys={"intermediate_size": "intermediate_size_mlp"},
    mlp_bias=False,
    qk_norm="rmsnorm_plain",
    qk_normed="use_qk_norm",
    qk_turned_only=True,
    own={
        "use_qk_norm": True, "num_key_value_heads": 8, "head_dim": 128, "attention_chunk_size": 8192,
        "num_local_experts": 16, "num_experts_per_tok": 1,
    },
    windows=Windows("attention_chunk_size", unturned=True),
    unturned="no_rope_layers",
    experts=Experts(
        "num_local_experts", width="intermediate_size", listed="moe_layers", every="interleave_moe_layer_step", shared=1
    ),
)  # fmt: skip
GPT_OSS = LLAMA._replace(
    name="gpt-oss", mlp_bias=False, sinks=True, gate="clamped_swiglu", windows=Windows(every=2),
    own={"attention_bias": True, "head_dim": 64, "num_key_value_heads": 8, "sliding_window": 128,
         "num_local_experts": 128, "num_experts_per_tok": 4},
    unread="hidden_act experts_per_token",
    experts=Experts("num_local_experts", width="intermediate_size", bias=True, router_bias=True),
)  # fmt: skip

DECODERS: Mapping[str, Decoder] = {
    "arcee": ARCEE,
    "aria_text": ARIA,
    "biogpt": BIO_GPT,
    "bloom": BLOOM,
    "codegen": GPT_J._replace(name="CodeGen"),
    "cohere": COHERE,
    "cohere2": COHERE2,
    "cwm": CWM,
    "dots1": DOTS1,
    "ernie4_5": ERNIE45,
    "ernie4_5_moe": ERNIE45_MOE,
    "exaone": LLAMA._replace(name="EXAONE 3", own={"num_key_value_heads": 8}),
    "exaone4": EXAONE4,
    "exaone_moe": EXAONE_MOE,
    "flex_olmo": FLEX_OLMO,
    "gemma": GEMMA,
    "gemma2": GEMMA2,
    "gemma3": GEMMA3,
    "gemma3_text": GEMMA3,
    "glm": GLM,
    "glm4": GLM4,
    "glm4_moe": GLM4_MOE,
    "gpt2": GPT2,
    "gpt_bigcode": GPT_BIGCODE,
    "gpt_neox": GPT_NEOX,
    "gpt_oss": GPT_OSS,
    "gptj": GPT_J,
    "granite": GRANITE,
    "granite_swa": GRANITE_SWA,
    "granitemoe": GRANITE_MOE,
    "granitemoe_swa": GRANITE_MOE_SWA,
    "granitemoeshared": GRANITE_MOE_SHARED,
    "helium": HELIUM,
    "hunyuan_v1_dense": HUNYUAN,
    "hunyuan_v1_moe": HUNYUAN_MOE,
    "hy_v3": HY3,
    "hyperclovax": HYPERCLOVA,
    "internlm3": LLAMA._replace(name="InternLM 3", own={"num_key_value_heads": 2, "head_dim": 128}),
    "iquestcoder": LLAMA._replace(name="IQuest-Coder", own={"num_key_value_heads": 8, "head_dim": 128}),
    "jais2": JAIS2,
    "llama": LLAMA,
    "llama4": LLAMA4,
    "llama4_text": LLAMA4,
    "mellum": MELLUM,
    "minimax_m2": MINIMAX_M2,
    "ministral": MISTRAL._replace(name="Ministral"),
    "ministral3": LATER_MISTRAL,
    "mistral": MISTRAL,
    "mistral3": MISTRAL._replace(part="text_config", tied=True),
    "mixtral": MIXTRAL,
    "mpt": MPT,
    "nanochat": NANO_CHAT,
    "nemotron": NEMOTRON,
    "olmo": OLMO,
    "olmo2": OLMO2,
    "olmo3": OLMO3,
    "olmoe": OLMOE,
    "openai-gpt": OPENAI_GPT,
    "persimmon": PERSIMMON,
    "phi": PHI,
    "phi3": PHI3,
    "phimoe": PHI_MOE,
    "qwen2": QWEN2,
    "qwen2_moe": QWEN2_MOE,
    "qwen3": QWEN3,
    "qwen3_moe": QWEN3_MOE,
    "sarvam_moe": SARVAM_MOE,
    "seed_oss": SEED_OSS,
    "smollm3": SMOLLM3,
    "solar_open": SOLAR,
    "stablelm": STABLE_LM,
    "starcoder2": STARCODER2,
    "vaultgemma": VAULT_GEMMA,
    "xglm": XGLM,
}
