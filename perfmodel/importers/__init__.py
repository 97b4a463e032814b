"""Models from a Hugging Face config.json: one file per family of architectures, selected by ``model_type``."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

from perfmodel.errors import InputError, shown
from perfmodel.importers import quantised
from perfmodel.importers.config import Config
from perfmodel.importers.decoders import DECODERS
from perfmodel.importers.model import Model
from perfmodel.specfile import read_text
from perfmodel.strictjson import parsed

# The files of the families, and the model types that each reads.
FILES = {
    "decoder": " ".join(DECODERS),
    "deepseek": "deepseek_v2 deepseek_v3 glm4_moe_lite minicpm3 sarvam_mla youtu",
    "falcon": "falcon",
    "gpt_neo": "gpt_neo",
    "opt": "opt",
    "bert": (
        "bert bert-generation camembert data2vec-text distilbert electra ernie megatron-bert roberta roberta-prelayernorm "
        "xlm-roberta xlm-roberta-xl"
    ),
    "modernbert": "modernbert modernbert-decoder",
    "t5": "t5 mt5 umt5",
    "whisper": "whisper",
    "vit": "vit",
    "mamba": "mamba falcon_mamba",
    "rwkv": "rwkv",
}
FAMILIES = {kind: file for file, kinds in FILES.items() for kind in kinds.split()}


def load(path: str) -> Model:
    """The model of a config.json file."""
    return model(
        parsed(read_text(path), path, "a model config, one JSON object, is accepted", "Check the file name."), path
    )


def model(document: dict[str, Any], where: str) -> Model:
    """The model of a config given as a dictionary."""
    config = Config(document, where)
    kind = config.text("model_type")
    if kind not in FAMILIES:
        raise InputError(
            f"{where}: model_type", f"{shown(kind)} is not a supported architecture",
            f"one of {', '.join(FAMILIES)} is accepted",
            "Describe this model in a workload file; a similar model_type is a different architecture.",
        )  # fmt: skip
    config.refuse_remote_code()
    build: Callable[[Config], Model] = import_module(f"perfmodel.importers.families.{FAMILIES[kind]}").build
    found, dtype = build(config), config.dtype()
    stored = quantised.read(config, found.steps)
    return found._replace(
        stored=stored.chosen,
        stored_note=stored.note,
        notes=tuple(dict.fromkeys((*found.notes, *config.notes, *config.assumptions()))),
        not_counted=tuple(dict.fromkeys((*found.not_counted, *stored.not_counted, *config.not_counted(kind)))),
        longest=config.longest(),
        name=config.own_name(),
        dtype=dtype,
    )
