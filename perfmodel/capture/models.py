"""A model of transformers as a program: built from its config.json on the meta device, without weights.

Its code is that of the installed transformers. Code that a config names elsewhere (``auto_map``) is never run.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from perfmodel.errors import InputError, said
from perfmodel.specfile import read_text

PHASES = ("prefill", "decode", "train")
ACCEPTED = (
    "prefill (B sequences of N tokens), decode (one token for B sequences after S cached ones) and train are accepted"
)

# Changes a model and its inputs: wrap(model, inputs) -> (model, inputs).
Wrap = Callable[[Any, dict[str, Any]], tuple[Any, dict[str, Any]]]


def step(
    path: str, phase: str, *, B: int = 1, N: int = 128, S: int = 128, dtype: str = "bfloat16", device: str = "meta",
    optimizer: str = "fused", layers: int | None = None, wrap: Wrap | None = None,
) -> Callable[[], Any]:  # fmt: skip
    """Returns one step of the model of a config.json: a prompt, a token over a static cache, or a training step.

    ``layers``: only the first layers of the model. ``wrap`` changes the model of a training step and its inputs, such as
    for data parallelism, before the optimizer is made.
    """
    import torch

    transformers = installed()
    if phase not in PHASES:
        raise InputError(f"phase {phase}", "a program does not have it", ACCEPTED)
    config = read_config(transformers, path)
    if layers is not None:
        _shorten(config, layers, path)
    model = built(torch, transformers, config, getattr(torch, dtype), device, path)
    if phase == "train":
        model.train()
        given = inputs(torch, config, model, B, N, device, labels=True)
        return _training(torch, *(wrap(model, given) if wrap else (model, given)), optimizer)
    model.eval()
    if phase == "decode":
        return _decoding(torch, transformers, model, config, inputs(torch, config, model, B, 1, device), S)
    given = inputs(torch, config, model, B, N, device)

    def prompt() -> Any:
        with torch.no_grad():
            return model(**given)

    return prompt


def _shorten(config: Any, layers: int, path: str) -> None:
    """Keeps the first layers of a decoder."""
    text = config.get_text_config()
    if not 0 < layers <= (getattr(text, "num_hidden_layers", None) or 0):
        raise InputError(
            path, f"the model has no {layers} layers", "at most the layers of the config are accepted", "Reduce L."
        )
    text.num_hidden_layers = layers
    if getattr(text, "layer_types", None):
        text.layer_types = text.layer_types[:layers]


def installed() -> Any:
    """Returns the package transformers."""
    try:
        import transformers
    except ImportError:
        raise InputError(
            "--via torch", "transformers is not installed", "a model is built by torch and transformers",
            "Run 'pip install torch transformers', or leave the option out.",
        ) from None  # fmt: skip
    transformers.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    return transformers


def read_config(transformers: Any, path: str) -> Any:
    """Returns the configuration object of a config.json."""
    try:
        page: Mapping[str, Any] = json.loads(read_text(path))
        config = transformers.AutoConfig.for_model(
            page["model_type"], **{key: value for key, value in page.items() if key not in ("model_type", "auto_map")}
        )
    except Exception as error:
        raise InputError(
            path, f"transformers {transformers.__version__} cannot read it: {said(str(error).partition(chr(10))[0])}",
            "a config.json of a model that the installed transformers has is accepted", "Install a newer transformers.",
        ) from None  # fmt: skip
    if getattr(config, "is_encoder_decoder", False) and getattr(config, "decoder_start_token_id", None) is None:
        config.decoder_start_token_id = config.pad_token_id = 0
    return config


def built(torch: Any, transformers: Any, config: Any, dtype: Any, device: str, path: str = "") -> Any:
    """Returns the model of a configuration, with attention by torch's fused kernels where it has them."""
    loader = _loader(transformers, config)
    for attention in ("sdpa", "eager"):
        config._attn_implementation = attention
        try:
            with torch.device(device):
                return loader(config).to(dtype)
        except ValueError as error:
            if attention == "eager" or "scaled_dot_product_attention" not in str(error):
                raise InputError(
                    path or config.model_type, f"transformers cannot build it: {said(str(error).partition(chr(10))[0])}",
                    "a model of the installed transformers is accepted",
                ) from None  # fmt: skip
    raise AssertionError


def _loader(transformers: Any, config: Any) -> Callable[[Any], Any]:
    """The class that the config names, or the first task that has a class for it."""
    named = (getattr(config, "architectures", None) or [""])[0]
    if named and hasattr(transformers, named):
        return getattr(transformers, named)._from_config  # type: ignore[no-any-return]
    tasks = (
        ("SpeechSeq2Seq", "Seq2SeqLM") if config.is_encoder_decoder else ("MaskedLM", "CausalLM", "ImageClassification")
    )
    for task in tasks:
        auto = getattr(transformers, f"AutoModelFor{task}")
        if type(config) in auto._model_mapping:
            return auto.from_config  # type: ignore[no-any-return]
    return transformers.AutoModel.from_config  # type: ignore[no-any-return]


def inputs(torch: Any, config: Any, model: Any, B: int, N: int, device: str, *, labels: bool = False) -> dict[str, Any]:
    """Returns the inputs of a model: tokens, an image or audio features, with labels for training."""
    name, dtype = model.main_input_name, next(model.parameters()).dtype

    def tokens() -> Any:
        return torch.randint(0, config.get_text_config().vocab_size, (B, N), device=device)

    if name == "pixel_values":
        size = (
            config.image_size
            if isinstance(config.image_size, (tuple, list))
            else (config.image_size, config.image_size)
        )
        found = {name: torch.randn((B, config.num_channels, *size), device=device, dtype=dtype)}
        return found | ({"labels": torch.zeros(B, dtype=torch.long, device=device)} if labels else {})
    if name == "input_features":
        frames = 2 * config.max_source_positions
        found = {name: torch.randn((B, config.num_mel_bins, frames), device=device, dtype=dtype)}
        return found | {"labels" if labels else "decoder_input_ids": tokens()}
    found = {"input_ids": tokens()}
    if config.is_encoder_decoder:
        return found | {"labels" if labels else "decoder_input_ids": tokens()}
    return found | ({"labels": tokens()} if labels else {})


def _training(torch: Any, model: Any, given: dict[str, Any], optimizer: str) -> Callable[[], Any]:
    adam = torch.optim.AdamW(model.parameters(), lr=1e-5)
    if optimizer == "fused":  # set afterwards, because the constructor refuses tensors without data
        adam.param_groups[0]["fused"] = adam.defaults["fused"] = True

    def training_step() -> Any:
        loss = model(**given).loss
        loss.backward()
        adam.step()
        adam.zero_grad(set_to_none=True)
        return loss.detach()

    return training_step


def _decoding(
    torch: Any, transformers: Any, model: Any, config: Any, given: dict[str, Any], S: int
) -> Callable[[], Any]:
    cache = transformers.StaticCache(config=config, max_cache_len=S + 1)
    names = model.forward.__code__.co_varnames
    word = "cache" if "cache" in names and "past_key_values" not in names else "past_key_values"

    def token() -> Any:
        with torch.no_grad():
            for layer in cache.layers:
                if isinstance(layer.cumulative_length, int):
                    layer.cumulative_length = S
                else:
                    layer.cumulative_length.fill_(S)
            return model(**given, **{word: cache}, use_cache=True)

    with torch.no_grad():
        model(**given, **{word: cache}, use_cache=True)  # allocates the cache
    return token
