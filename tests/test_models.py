"""Real models: published parameter totals, counts of instantiated models, and every workload on a card.

Totals are literals with their source. Counts come from a table of instantiated models, if it is beside the repository.
"""

from __future__ import annotations

import csv
import json
from functools import cache
from pathlib import Path

import pytest
from command import perfmodel
from many import for_each

from perfmodel import analyse
from perfmodel.config_files import workload
from perfmodel.errors import InputError
from perfmodel.hardware import gpu
from perfmodel.importers import model
from perfmodel.paths import files

ROOT = Path(__file__).parent.parent
ORACLE = ROOT.parent / "shared" / "oracle"
MODELS = [name for name, path in files("configs").items() if path.endswith(".json")]


@cache
def counted(name, phase=None, form=None, **settings):
    return analyse(name, phase=phase, form=form, settings=settings)


# --- published totals

# The size of a checkpoint is the number of elements in its safetensors files, from the page of the model. Sums remove
# elements that are not parameters of the text model, or a tied table that is stored twice.

TOWER = 1152 * (588 + 1 + 4096) + 27 * (4 * 1152 * 1153 + 2 * 1152 * 4304 + 4304 + 1152 + 4 * 1152) + 2 * 1152
TOTALS = {
    "bert-base-uncased": 109_514_298,  # instantiated BertForMaskedLM
    # 335,141,888 of BertModel less its pooler, 1024^2 + 1024, and with the words' transform, norm and biases.
    "bert-large-uncased": 335_141_888 - 1_049_600 + 1_049_600 + 2 * 1024 + 30_522,
    "bloom": 176_247_271_424,  # checkpoint
    "bloom-3b": 3_002_557_440,  # checkpoint
    "bloom-7b1": 7_069_016_064,  # checkpoint
    "deepseek-v2": 235_741_434_880,  # checkpoint
    "deepseek-v2-lite": 15_706_484_224,  # checkpoint
    # Main model of the checkpoint, without the layer for further tokens and the scales of the 8-bit weights: less the
    # routers' correction biases, which no gradient trains, 256 in each of 58 layers.
    "deepseek-v3": 671_026_419_200 - 58 * 256,
    "falcon-7b": 6_921_720_704,  # instantiated
    "falcon-40b": 41_835_970_560 - 65_024 * 8192,  # checkpoint, which holds the tied head as well
    "gemma-2-27b": 27_227_128_320,  # checkpoint
    "gemma-2-2b": 2_614_341_888,  # checkpoint
    "gemma-2-9b": 9_241_705_984,  # checkpoint
    "gemma-2b": 2_506_172_416,  # checkpoint
    "gemma-7b": 8_537_680_896,  # checkpoint
    # Checkpoints less a projection of 1152 x D with a norm of 1152, and a vision tower of width 1152: 3 x 14^2 inputs of a
    # patch and a bias; 64^2 positions; 27 layers of 4 (1152^2 + 1152), 2 x 1152 x 4304 + 4304 + 1152 and two norms; a norm.
    "gemma-3-12b": 12_187_325_040 - TOWER - 1152 * (3840 + 1),
    "gemma-3-1b": 999_885_952,  # checkpoint
    "gemma-3-27b": 27_432_406_640 - TOWER - 1152 * (5376 + 1),
    "gemma-3-4b": 4_300_079_472 - TOWER - 1152 * (2560 + 1),
    "gpt-j-6b": 6_050_882_784,  # instantiated
    "gpt-neo-2.7b": 2_651_307_520,  # instantiated
    "gpt-neox-20b": 20_554_567_680,  # model card
    "gpt-oss-120b": 116_829_156_672,  # instantiated; 116.83 billion on the model card, table 1
    "gpt-oss-20b": 20_914_757_184,  # instantiated; 20.91 billion on the model card, table 1
    "gpt2": 124_439_808,  # checkpoint
    "gpt2-large": 774_030_080,  # checkpoint
    "gpt2-medium": 354_823_168,  # checkpoint
    "gpt2-xl": 1_557_611_200,  # checkpoint
    # Checkpoints of Llama 2 less 64 rotary frequencies a layer.
    "llama-2-13b": 13_015_866_880 - 40 * 64,
    "llama-2-70b": 68_976_653_312 - 80 * 64,
    "llama-2-7b": 6_738_417_664 - 32 * 64,
    "llama-3-70b": 70_553_706_496,  # checkpoint
    "llama-3-8b": 8_030_261_248,  # checkpoint
    "llama-3.1-405b": 405_853_388_800,  # checkpoint
    "llama-3.1-70b": 70_553_706_496,  # checkpoint
    "llama-3.1-8b": 8_030_261_248,  # checkpoint
    "llama-3.2-1b": 1_235_814_400,  # checkpoint
    "llama-3.2-3b": 3_212_749_824,  # checkpoint
    "llama-3.3-70b": 70_553_706_496,  # checkpoint
    "mamba-1.4b": 1_372_178_432,  # instantiated
    "mamba-130m": 129_135_360,  # instantiated
    "mamba-2.8b": 2_768_345_600,  # instantiated
    "mistral-7b-v0.1": 7_241_732_096,  # checkpoint
    "mistral-7b-v0.3": 7_248_023_552,  # checkpoint
    "mistral-nemo-12b": 12_247_782_400,  # checkpoint
    "mistral-small-24b": 23_572_403_200,  # checkpoint
    "mixtral-8x22b": 140_620_634_112,  # checkpoint of v0.1
    "mixtral-8x7b": 46_702_792_704,  # checkpoint
    "opt-125m": 125_239_296,  # instantiated
    "phi-2": 2_779_683_840,  # checkpoint
    "phi-3-mini-4k": 3_821_079_552,  # checkpoint
    "phi-4": 14_659_507_200,  # checkpoint
    "phi-4-mini": 3_836_021_760,  # checkpoint
    # Biderman et al. 2023, table 1: without the two tables of vocabulary x D.
    "pythia-1.4b": 1_208_602_624 + 2 * 50_304 * 2048,
    "pythia-12b": 11_327_027_200 + 2 * 50_688 * 5120,
    "pythia-160m": 85_056_000 + 2 * 50_304 * 768,
    "pythia-6.9b": 6_444_163_072 + 2 * 50_432 * 4096,
    "qwen1.5-moe-a2.7b": 14_315_784_192,  # checkpoint
    "qwen2-7b": 7_615_616_512,  # checkpoint
    "qwen2.5-0.5b": 494_032_768,  # checkpoint
    "qwen2.5-1.5b": 1_543_714_304,  # checkpoint
    "qwen2.5-14b": 14_770_033_664,  # checkpoint
    "qwen2.5-32b": 32_763_876_352,  # checkpoint
    "qwen2.5-3b": 3_085_938_688,  # checkpoint
    "qwen2.5-72b": 72_706_203_648,  # checkpoint
    "qwen2.5-7b": 7_615_616_512,  # checkpoint
    "qwen3-0.6b": 751_632_384 - 151_936 * 1024,  # checkpoint, which holds the tied head as well
    "qwen3-1.7b": 2_031_739_904 - 151_936 * 2048,  # checkpoint, which holds the tied head as well
    "qwen3-14b": 14_768_307_200,  # checkpoint
    "qwen3-235b-a22b": 235_093_634_560,  # checkpoint
    "qwen3-30b-a3b": 30_532_122_624,  # checkpoint
    "qwen3-32b": 32_762_123_264,  # checkpoint
    "qwen3-4b": 4_022_468_096,  # checkpoint
    "qwen3-8b": 8_190_735_360,  # checkpoint
    "rwkv-4-169m": 169_342_464,  # instantiated
    "smollm2-1.7b": 1_711_376_384,  # checkpoint
    "smollm2-135m": 134_515_008,  # checkpoint
    "t5-base": 222_903_552,  # instantiated
    "t5-large": 737_668_096,  # instantiated
    "t5-small": 60_506_624,  # instantiated
    "tinyllama-1.1b": 1_100_048_384,  # checkpoint
    "vit-base-patch16-224": 86_567_656,  # instantiated
    "vit-large-patch16-224": 304_326_632,  # instantiated
    "whisper-base": 72_593_920,  # checkpoint
    "whisper-large-v3": 1_543_490_560,  # checkpoint
    "whisper-large-v3-turbo": 808_878_080,  # checkpoint
}


def test_every_model_in_configs_has_its_published_total():
    assert set(TOTALS) == set(MODELS)


@for_each("name", TOTALS)
def test_parameters_are_those_that_are_published(name):
    assert counted(name).parameters.total == TOTALS[name]


# --- instantiated models

ENTRIES = (
    list(csv.DictReader((ORACLE / "oracle.csv").read_text(encoding="utf-8").splitlines())) if ORACLE.is_dir() else []
)
needs_oracle = pytest.mark.skipif(not ENTRIES, reason="no counts of instantiated models beside the repository")
# A decoding step of DeepSeek has several forms. The counted library expands the whole cached latent at every step.
FORMS = {
    "decode_flops_total": "re-expanded",
    "decode_flops_total_mla_absorbed": "absorbed",
    "decode_flops_total_mla_expanded_cache": "expanded cache",
}
PARAMETERS = {"params_total": "total", "params_active": "active", "params_embedding": "embedding"}
CACHE = {
    "kv_cache_bytes_fp16_per_token_first_principles": None,
    "kv_cache_bytes_fp16_per_token_mla_expanded": "expanded cache",
}


def entries(*quantities):
    found = [entry for entry in ENTRIES if entry["quantity"] in quantities and entry["value"]]
    cases = [
        pytest.param(e, id="-".join(filter(None, (e["model"], e["quantity"], e["batch"], e["seq"])))) for e in found
    ]
    return pytest.mark.parametrize("entry", cases or [pytest.param(None, id="none")])


@needs_oracle
@entries(*PARAMETERS)
def test_parameters_are_those_of_the_instantiated_model(entry):
    held = counted(entry["model"]).parameters
    assert getattr(held, PARAMETERS[entry["quantity"]]) == int(entry["value"])


@needs_oracle
@entries("prefill_flops_total", "forward_flops_total")
def test_a_forward_pass_counts_what_the_instantiated_model_counts(entry):
    length = {} if entry["model"].startswith("vit") else {"N": int(entry["seq"])}
    answer = counted(entry["model"], B=int(entry["batch"]), **length)
    assert answer.total.contraction_flops == int(entry["value"])


@needs_oracle
@entries(*FORMS)
def test_a_decoded_token_counts_what_the_instantiated_model_counts(entry):
    form = FORMS[entry["quantity"]] if entry["model"].startswith("deepseek") else None
    answer = counted(entry["model"], "decode", form, B=int(entry["batch"]), S=int(entry["seq"]))
    assert answer.total.contraction_flops == int(entry["value"])


@needs_oracle
@entries(*CACHE)
def test_cache_per_token_is_that_of_first_principles(entry):
    form = CACHE[entry["quantity"]]
    answer = counted(entry["model"], "decode", form) if form else counted(entry["model"])
    assert answer.kv_cache_byte_per_token == int(entry["value"])


@needs_oracle
@pytest.mark.parametrize("path", sorted((ORACLE / "configs").glob("*.json")), ids=lambda path: path.stem)
def test_a_short_name_is_the_published_config(path):
    """The keys that are omitted from a config here do not change the counts."""
    short, whole = workload(path.stem), workload(str(path))
    whole = whole.with_dtype("fp16")  # the type that is stored is among the omitted keys
    for phase in whole.phases:
        assert short.dims(phase) == whole.dims(phase)
        assert [step.name for step in short.steps_in(phase)] == [step.name for step in whole.steps_in(phase)]


# --- laws for every workload


@for_each("name", files("configs"))
def test_every_workload_runs_on_a_card_in_every_phase(name):
    card = gpu("h100")
    for phase in workload(name).phases:
        answer = analyse(name, phase=phase, gpu=card)
        total = answer.total
        assert 0 < total.lower_s <= total.no_overlap_s
        assert 0 <= total.contraction_flops <= total.flops or answer.counting == "leading"
        assert 0 < total.compulsory_byte <= total.traffic_byte


@for_each("name", MODELS)
def test_a_models_file_holds_what_its_importer_reads(name):
    """A model file has only keys that its importer reads."""

    class Asked(dict):
        def get(self, key, default=None):
            asked.add(key)
            return super().get(key, default)

    asked = set()
    document = json.loads((ROOT / "configs" / f"{name}.json").read_text(encoding="utf-8"))
    model(Asked(document), name)
    assert set(document) <= asked


# Compulsory traffic of a whole model by hand, for 2-byte types and a prompt of 2048 tokens.
LEAST = {
    # 6,738,415,616 weights less the table's 32,000 x 4096, 2048 looked-up rows and indices of 8 bytes, keys and values
    # 2 x 32 x 2048 x 4096, logits 2048 x 32,000.
    "llama-2-7b": 2 * (6_738_415_616 - 32_000 * 4096 + 2048 * 4096 + 2 * 32 * 2048 * 4096 + 2048 * 32_000) + 8 * 2048,
    # A quarter of each head is rotated. The rest of it must not count as read from memory.
    "pythia-160m": 2 * (162_322_944 - 50_304 * 768 + 2048 * 768 + 2 * 12 * 2048 * 768 + 2048 * 50_304) + 8 * 2048,
}


@pytest.mark.parametrize("name", LEAST)
def test_what_must_cross_the_border(name):
    assert analyse(name, settings={"N": 2048}).total.compulsory_byte == LEAST[name]


@pytest.mark.parametrize(
    "name", ["t5-base", "whisper-base", "bert-base-uncased", "vit-base-patch16-224", "encoder-block"]
)
def test_a_causal_mask_is_the_decoders(name):
    """Encoders see all of their tokens, and decoders see all tokens of an encoder."""
    rows = [{row.name: row.flops for row in analyse(name, causal=causal).rows} for causal in (False, True)]
    changed = {step for step in rows[0] if rows[0][step] != rows[1][step]}
    assert changed <= {"decoder.layers.attention"}


def test_a_chunk_of_a_window_sees_all_that_it_may():
    """4 queries with a window of 4096 and 32,768 cached tokens see 4096 keys each: 4 x 4096 pairs per head."""
    rows = analyse("mistral-7b-v0.1", phase="decode", settings={"N": 4, "S": 32_768}, causal=True).rows
    attention = next(row for row in rows if row.name == "layers.attention")
    assert attention.contraction_flops == 4 * 4 * 4096 * 32 * 128


# --- learned positions end where their table ends

LAST = [
    # The largest sizes that a table of positions allows, including the position of the new token.
    ("gpt2", "prefill", "N", 1024),
    ("gpt2", "train", "N", 1024),
    ("gpt2", "decode", "S", 1024),
    ("gpt2-124m", "prefill", "N", 1024),
    ("opt-125m", "prefill", "N", 2048),
    ("opt-125m", "decode", "S", 2048),
    ("gpt-neo-2.7b", "prefill", "N", 2048),
    ("bert-base-uncased", "prefill", "N", 512),
    ("whisper-base", "prefill", "N", 448),
    ("whisper-base", "prefill", "N_e", 1500),
]


@for_each(("name", "phase", "symbol", "last"), LAST)
def test_a_length_beyond_the_learned_positions_is_refused(name, phase, symbol, last):
    assert analyse(name, phase=phase, settings={symbol: last}).total.flops > 0
    with pytest.raises(InputError, match=r"positions: .* <= V does not hold at .*; a learned table has V positions"):
        analyse(name, phase=phase, settings={symbol: last + 1})


@pytest.mark.parametrize("name", ["llama-2-7b", "bloom-7b1", "t5-base"])
def test_positions_that_are_computed_have_no_end(name):
    assert analyse(name, settings={"N": 100_000}).total.flops > 0


@pytest.mark.parametrize(("symbol", "value", "told"), [("N", 4096, False), ("N", 4097, True)])
def test_a_length_beyond_what_a_config_names_is_told(tmp_path, symbol, value, told):
    """Computed positions have no limit, but the model was trained for this length."""
    found = written(tmp_path, llama(max_position_embeddings=4096))
    notes = analyse(found, settings={symbol: value}).notes
    assert any(note.startswith("NB 4,097 positions pass the 4,096") for note in notes) == told
    assert not any(note.startswith("NB") for note in analyse(found, phase="decode", settings={"S": 4095}).notes)
    assert any(note.startswith("NB") for note in analyse(found, phase="decode", settings={"S": 4096}).notes)


def test_a_window_without_a_causal_mask_is_told():
    """In a prompt the window applies only with the causal mask. A decoded token sees its window in both cases."""
    found = {c: analyse("mistral-7b-v0.1", settings={"N": 8192}, causal=c) for c in (False, True)}
    assert [any("W = 4096 is part of a causal mask" in n for n in a.notes) for a in found.values()] == [True, False]
    assert not any("window" in note for note in analyse("mistral-7b-v0.1", settings={"N": 4096}).notes)
    assert not any("window" in note for note in analyse("mistral-7b-v0.1", phase="decode").notes)


def test_a_comparison_tells_it_too():
    ran = perfmodel("compare", "--config", "mistral-7b-v0.1", "--config", "llama-2-7b", "--set", "N=8192")
    assert "In mistral-7b-v0.1: The window W = 4096 is part of a causal mask" in " ".join(ran.out.split())


@pytest.mark.parametrize("name", ["mistral-7b-v0.3", "mistral-nemo-12b", "mistral-small-24b"])
def test_later_mistrals_see_all_keys(name):
    """Their configs have a null window."""
    assert "W" not in workload(name).sizes


# --- the class that a config was saved from


def document(name, **keys):
    return {**json.loads((ROOT / "configs" / f"{name}.json").read_text(encoding="utf-8")), **keys}


# Products of a prompt of N tokens that each head does or leaves out, from the model's own sizes.
HEADS = [
    ("gpt2", "GPT2Model", -2 * 8 * 768 * 50_257),
    ("llama-2-7b", "LlamaForSequenceClassification", 2 * 8 * 4096 * (3 - 32_000)),
    ("gemma-2-2b", "Gemma2ForTokenClassification", 2 * 8 * 2304 * (3 - 256_000)),
    ("opt-125m", "OPTForQuestionAnswering", 2 * 8 * 768 * (2 - 50_272)),
    ("rwkv-4-169m", "RwkvModel", -2 * 8 * 768 * 50_277),
    ("t5-small", "T5Model", -2 * 8 * 512 * 32_128),
    ("whisper-base", "WhisperModel", -2 * 8 * 512 * 51_865),
    ("phi-2", "PhiModel", -2 * 8 * 2560 * 51_200),
]


@for_each(("name", "architecture", "more"), HEADS)
def test_a_class_has_its_head_alone(tmp_path, name, architecture, more):
    found = written(tmp_path, document(name, architectures=[architecture], id2label={"0": "a", "1": "b", "2": "c"}))
    flops = [analyse(config, settings={"N": 8}).total.contraction_flops for config in (found, name)]
    assert flops[0] - flops[1] == more


@pytest.mark.parametrize(
    ("name", "architecture"), [("t5-small", "T5EncoderModel"), ("whisper-base", "WhisperForAudioClassification")]
)
def test_an_encoder_alone_has_no_decoder(tmp_path, name, architecture):
    found = written(tmp_path, document(name, architectures=[architecture]))
    assert not any(step.name.startswith("decoder") for step in found.steps)
    assert set(found.phases) == {"prefill", "train"}
    parts = [row for row in analyse(name, settings={"N_e": 1500}).rows if row.name.startswith("encoder.layers")]
    alone = [row for row in analyse(found, settings={"N": 1500}).rows if row.name.startswith("encoder.layers")]
    assert [(row.name, row.flops) for row in alone] == [(row.name, row.flops) for row in parts]


def test_a_class_with_an_unknown_head_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"config.json: architectures: 'LlamaForRewards' is a class with an unsupported head; "
                       r"one of LlamaForCausalLM, .*LlamaForSequenceClassification, .* is accepted"):  # fmt: skip
        written(tmp_path, document("llama-2-7b", architectures=["LlamaForRewards"]))


@pytest.mark.parametrize("given", ["LlamaForCausalLM", [7], {"a": 1}])
def test_architectures_that_are_no_list_of_names_are_refused(tmp_path, given):
    with pytest.raises(InputError, match=r"architectures is .*; a list with a class name is accepted"):
        written(tmp_path, document("llama-2-7b", architectures=given))


def test_a_head_that_is_assumed_is_told(tmp_path):
    without = document("llama-2-7b")
    del without["architectures"]
    assert written(tmp_path, without).notes == ("architectures is not in the config: the head ForCausalLM is assumed.",)


def test_a_class_of_another_family_is_told(tmp_path):
    (note,) = written(tmp_path, document("llama-2-7b", architectures=["YiForCausalLM"])).notes
    assert note == "architectures names 'YiForCausalLM', not a class of llama: the head ForCausalLM is assumed."


# --- keys that no importer reads


def llama(**keys):
    return {**json.loads((ROOT / "configs" / "llama-2-7b.json").read_text(encoding="utf-8")), **keys}


def written(folder, document):
    """Returns the workload of a file with this config."""
    (folder / "config.json").write_text(json.dumps(document), encoding="utf-8")
    return workload(str(folder / "config.json"))


def test_keys_that_cannot_change_a_count_are_passed_over(tmp_path):
    keys = {
        "transformers_version": "4.40", "rope_theta": 1e6, "rope_scaling": {"factor": 8.0},
        "bos_token_id": 1, "sep_token_id": [1, 2], "attention_dropout": 0.1, "rms_norm_eps": 1e-6, "temperature": 0.6,
        "use_cache": True, "initializer_range": 0.02, "router_aux_loss_coef": 0.1, "something_new": None, "pruned_heads": {},
    }  # fmt: skip
    found = written(tmp_path, llama(**keys))
    assert (found.notes, found.not_counted) == ((), ())


@pytest.mark.parametrize(
    ("key", "word", "dtype"),
    [
        ("torch_dtype", "float32", "fp32"),
        ("dtype", "bfloat16", "bf16"),
        ("dtype", "torch.float16", "fp16"),
        ("dtype", "auto", "fp16"),
    ],
)
def test_the_data_type_of_a_config_is_the_default(tmp_path, key, word, dtype):
    found = written(tmp_path, llama(**{key: word}))
    assert set(found.dtypes.values()) == {dtype}
    assert any(f"Data type {dtype}" in note and repr(word) in note for note in found.notes) == (word != "auto")


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"torch_dtype": "float33"}, "torch_dtype: found 'float33'; one of float64, float32"),
        ({"num_hidden_layers": 10**8}, "num_hidden_layers: found 100000000; at most 10,000 layers are accepted"),
        (
            {"model_type": "qwen3_moe", "mlp_only_layers": [1000]},
            "mlp_only_layers: found [1000]; a list of layer numbers from 0 to",
        ),
        (
            {"model_type": "gemma2", "attn_logit_softcapping": "abc"},
            "attn_logit_softcapping: 'abc' is not accepted here; a cap",
        ),
        ({"model_type": "glm4_moe", "first_k_dense_replace": 1000}, "first_k_dense_replace: found 1000; at most"),
    ],
)
def test_a_figure_out_of_its_range_is_refused(tmp_path, config, told):
    with pytest.raises(InputError) as error:
        written(tmp_path, llama(**config))
    assert told in str(error.value)


@pytest.mark.parametrize(
    ("name", "figure", "told"),
    [
        (
            "deepseek-v3",
            {"first_k_dense_replace": 1000},
            "first_k_dense_replace: found 1000; at most 61, the number of",
        ),
        ("gpt-j-6b", {"rotary_dim": 100_000}, "rotary_dim is 100000; at most 256, the size of a head"),
    ],
)
def test_a_figure_beyond_the_rest_of_a_config_is_refused(tmp_path, name, figure, told):
    page = json.loads((Path(__file__).parent.parent / "configs" / f"{name}.json").read_text())
    with pytest.raises(InputError, match=told):
        written(tmp_path, {**page, **figure})


STRANGE = [
    ({"banana": 7}, "the config key banana = 7, which is not known here and may change the counts"),
    ({"use_bananas": True}, "the config key use_bananas = true, which"),
    ({"banana_config": {"hidden_size": 8}}, "the config part banana_config, which"),
    (
        {"position_embedding_type": "relative_key"},
        "the config key position_embedding_type = 'relative_key', which",
    ),
    ({"add_cross_attention": True}, "the config key add_cross_attention = true, which"),
    (
        {"quantization_config": {"bits": 3, "quant_method": "gptq"}},
        "the quantisation of the stored weights by 'gptq' with 3 bits (counts are of unquantised weights)",
    ),
    ({"vision_config": {"depth": 4}}, "the vision tower"),
]


@for_each(("keys", "told"), STRANGE)
def test_a_key_that_is_not_known_is_told(tmp_path, keys, told):
    (found,) = written(tmp_path, llama(**keys)).not_counted
    assert found.startswith(told)
    ran = perfmodel("flops", "--config", str(tmp_path / "config.json"))
    assert told in " ".join(ran.out.split())


def test_code_that_comes_with_the_weights_is_told(tmp_path):
    (note,) = written(tmp_path, llama(auto_map={"AutoModel": "x.Y"})).notes
    assert note.startswith("auto_map names custom code: ")


SLIPS = [
    ("mlp_bais", True, "mlp_bias"),
    ("tie_word_embedding", True, "tie_word_embeddings"),
    ("head_dims", 8, "head_dim"),
]


@pytest.mark.parametrize(("key", "value", "meant"), SLIPS)
def test_a_misspelt_key_is_refused(tmp_path, key, value, meant):
    document = llama(**{key: value})
    document.pop(meant, None)
    with pytest.raises(
        InputError, match=rf"config.json: {key}: this model_type has no such key; .* Did you mean '{meant}'\?"
    ):
        written(tmp_path, document)


def test_a_part_of_a_config_is_read_as_strictly(tmp_path):
    text = json.loads((ROOT / "configs" / "gemma-3-4b.json").read_text(encoding="utf-8"))
    whole = {"model_type": "gemma3", "text_config": text, "vision_config": {"hidden_size": 8}}
    before = written(tmp_path, whole).not_counted
    whole["text_config"]["banana"] = 7
    (extra,) = set(written(tmp_path, whole).not_counted) - set(before)
    assert extra.startswith("the config key banana = 7")


SHIPPED = [ROOT / "configs" / f"{name}.json" for name in MODELS]
PUBLISHED = sorted((ORACLE / "configs").glob("*.json"))


@for_each("path", [*SHIPPED, *PUBLISHED])
def test_a_published_config_holds_nothing_strange(path):
    assert not any("which is not known here" in told for told in workload(str(path)).not_counted)
