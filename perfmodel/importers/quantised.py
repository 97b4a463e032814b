"""The format of a model's stored weights, from ``quantization_config`` of its config.json.

Each method has its own keys. Modules that a config leaves out keep the data type of the model; they are matched by the
names that checkpoints give to the projections of a layer. What has no format here is listed as not counted.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from perfmodel.block import Step
from perfmodel.errors import InputError, shown
from perfmodel.formats import FORMATS, Format, checked_group
from perfmodel.importers.config import Config
from perfmodel.quantisation import Chosen, holds_weights

KEYS = ("quantization_config", "compression_config")
# Names of the modules of a step in checkpoints: of a projection, then of the part of the layer that it belongs to.
MODULES = {
    "attention.q": "self_attn.q_proj", "attention.k": "self_attn.k_proj", "attention.v": "self_attn.v_proj",
    "attention.project": "self_attn.o_proj", "attention.q_down": "self_attn.q_a_proj",
    "attention.q_up": "self_attn.q_b_proj", "attention.kv_down": "self_attn.kv_a_proj_with_mqa",
    "attention.kv_up": "self_attn.kv_b_proj", "mlp.gate_up": "mlp.gate_proj", "mlp.up": "mlp.up_proj",
    "mlp.down": "mlp.down_proj", "moe.gate_up": "mlp.experts.0.gate_proj", "moe.down": "mlp.experts.0.down_proj",
    "moe.shared.gate_up": "mlp.shared_experts.gate_proj", "moe.shared.down": "mlp.shared_experts.down_proj",
}  # fmt: skip
LAYER = "model.layers.0."
LEFT_OUT = ("modules_to_not_convert", "ignore", "ignored_layers", "exclude_modules")
ONE_LAYER = re.compile(r"\.\d+\.")
EXPERTS = ("expert_linear", "expert_linear_bias")


class Quantised(NamedTuple):
    """The formats by step, none for an unquantised model; the note on them; features that are not counted."""

    chosen: Chosen | None = None
    note: str = ""
    not_counted: tuple[str, ...] = ()


def read(c: Config, steps: Sequence[Step]) -> Quantised:
    """The quantisation of a model's weights."""
    key = next((key for key in KEYS if c.has(key)), "")
    if not key:
        return Quantised()
    page = c.document[key]
    if not isinstance(page, dict):
        raise InputError(f"{c.where}: {key}", f"found {shown(page)}", "an object is accepted", "Correct it.")
    where = f"{c.where}: {key}"
    method = page.get("quant_method", "compressed-tensors" if "config_groups" in page else None)
    reader = METHODS.get(method) if isinstance(method, str) else None
    form = reader(page, where) if reader else None
    if form is None:
        told = (
            f"the quantisation of the stored weights by {_described(page, method)} (counts are of unquantised weights)"
        )
        return Quantised(not_counted=(told,))
    patterns = [text for name in LEFT_OUT for text in _texts(page, name, where)]
    whole = [text for text in patterns if not ONE_LAYER.search(text)]
    single = len(patterns) - len(whole)
    # The experts of gpt-oss alone are stored in MXFP4.
    only = EXPERTS if method == "mxfp4" else ()

    def chosen(step: Step) -> Format | None:
        left = not holds_weights(step, grouped=True) or (only and step.operation.name not in only)
        return None if left or any(_matches(text, step) for text in whole) else form

    if not any(map(chosen, steps)):
        return Quantised(not_counted=(f"the quantisation by {method}, which leaves out every layer",))
    note = f"Weights of the layers are in {form.text}, by {key} of the config: {form.means}."
    more = [f"{single} entries for modules of single layers that stay unquantised ({key})"] if single else []
    if page.get("kv_cache_scheme"):
        more.append("the quantisation of the cache (kv_cache_scheme): --set cache=1 counts one byte per element")
    return Quantised(chosen, note, tuple(more))


def _described(page: Mapping[str, Any], method: Any) -> str:
    bits = page.get("bits", page.get("w_bit"))
    return (shown(method) if method else "an unnamed method") + (f" with {bits} bits" if isinstance(bits, int) else "")


def _texts(page: Mapping[str, Any], key: str, where: str) -> Iterator[str]:
    given = page.get(key) or ()
    if not isinstance(given, list) or not all(isinstance(text, str) for text in given):
        if given != ():
            raise InputError(f"{where}: {key}", f"found {shown(given)}", "a list of names is accepted", "Correct it.")
        return
    yield from given


def _matches(pattern: str, step: Step) -> bool:
    """Whether a pattern names the module of a step: a regular expression after ``re:``, else a name or a part of one."""
    own = step.name.removeprefix(step.group)
    module = LAYER + MODULES.get(own, own)
    if pattern.startswith("re:"):
        try:
            return re.match(pattern.removeprefix("re:"), module) is not None
        except re.error:
            return False
    words = [re.escape(part) for part in pattern.replace("layers.*", "layers.0").split("*")]
    return re.search(rf"(^|\.){'.*'.join(words)}(\.|$)", module) is not None


def _number(page: Mapping[str, Any], key: str, default: Any, where: str) -> Any:
    value = page.get(key, default)
    if value is not None and type(value) is not int:
        raise InputError(f"{where}: {key}", f"found {shown(value)}", "a whole number is accepted", "Correct it.")
    return value


def _grouped(form: Format, page: Mapping[str, Any], where: str, default: int = 128) -> Format:
    """The format with the size of its groups; -1 is one group for a whole column."""
    group = _number(page, "group_size", default, where)
    return form._replace(group=0 if group == -1 else checked_group(group, f"{where}: group_size"))


def _awq(page: Mapping[str, Any], where: str) -> Format | None:
    if _number(page, "bits", page.get("w_bit", 4), where) != 4:
        return None
    return _grouped(FORMATS["awq"] if page.get("zero_point", True) else FORMATS["int4"], page, where)


def _gptq(page: Mapping[str, Any], where: str) -> Format | None:
    """A symmetric checkpoint stores zero points too."""
    name = {4: "gptq", 8: "gptq8"}.get(_number(page, "bits", 4, where))
    return _grouped(FORMATS[name], page, where) if name and not page.get("dynamic") else None


def _fp8(page: Mapping[str, Any], where: str) -> Format | None:
    block = page.get("weight_block_size")
    if block is None:
        return FORMATS["fp8-static" if page.get("activation_scheme") == "static" else "fp8-tensor"]
    if not (isinstance(block, list) and len(block) == 2 and all(type(side) is int and side > 1 for side in block)):
        raise InputError(f"{where}: weight_block_size", f"found {shown(block)}", "two whole numbers are accepted")
    return FORMATS["fp8-block"]._replace(group=block[1], columns=block[0], run=block[1])


def _compressed(page: Mapping[str, Any], where: str) -> Format | None:
    """One group of equal layers. Its scheme gives bits, type and strategy of weights and of activations."""
    groups = page.get("config_groups")
    schemes = list(groups.values()) if isinstance(groups, dict) else []
    if len(schemes) != 1 or not isinstance(schemes[0], dict) or not isinstance(schemes[0].get("weights"), dict):
        return None
    weights, inputs = schemes[0]["weights"], schemes[0].get("input_activations")
    kind = weights.get("num_bits"), weights.get("type"), weights.get("strategy")
    if kind == (4, "int", "group") and not inputs:
        form = FORMATS["int4"] if weights.get("symmetric", True) else FORMATS["awq"]
        return _grouped(form, weights, where)
    if kind == (4, "float", "tensor_group"):
        return FORMATS["nvfp4-w4a4" if inputs else "nvfp4"]
    if kind == (4, "float", "group") and _number(weights, "group_size", 0, where) == 32 and not inputs:
        return FORMATS["mxfp4"]
    if kind == (8, "int", "channel"):
        return FORMATS["int8-token" if inputs else "int8"]
    if kind[:2] == (8, "float") and isinstance(inputs, dict):
        static = kind[2] == "tensor" and not inputs.get("dynamic")
        name = {"channel": "fp8-channel", "tensor": "fp8-static" if static else "fp8-tensor", "block": "fp8-block"}
        return FORMATS[name[kind[2]]] if kind[2] in name else None
    return None


def _modelopt(page: Mapping[str, Any], where: str) -> Format | None:
    return {"NVFP4": FORMATS["nvfp4-w4a4"], "FP8": FORMATS["fp8-static"]}.get(str(page.get("quant_algo")))


METHODS: Mapping[str, Callable[[Mapping[str, Any], str], Format | None]] = {
    "awq": _awq,
    "gptq": _gptq,
    "mxfp4": lambda page, where: FORMATS["mxfp4"],
    "fp8": _fp8,
    "fbgemm_fp8": lambda page, where: FORMATS["fp8-channel"],
    "compressed-tensors": _compressed,
    "modelopt": _modelopt,
}
