"""Compares the importers with the models of the installed transformers.

python benchmarks/breadth.py [--only KIND...] [--part defaults|heads|absent]

``defaults`` instantiates every causal language model on the meta device from its default config, in full size. The
config goes through the file that save_pretrained writes. It compares parameters, FLOPs of a forward pass over 16
tokens, and FLOPs of one more token with the cache. ``heads`` does the same for every class of the supported families.
``absent`` does so for every causal family with each key of its config removed in turn. Both use small configs.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
import traceback
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

# Replaces this folder in the path by the tests: kernels.py here has the name of a package that transformers imports.
sys.path.remove(str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

import instantiated
import torch
import transformers

from perfmodel.errors import InputError
from perfmodel.importers import FAMILIES

LENGTH = 16
BAR = {"exact": 75, "wrong": 0, "traceback": 0}
# Keys for the file, the class and the tokens, which do not affect the size of a model.
OUTSIDE = {"architectures", "model_type", "transformers_version", "dtype", "_name_or_path", "pad_token_id"}


class Case(NamedTuple):
    """One comparison: its name, the outcome, and the difference or error."""

    name: str
    outcome: str
    detail: str = ""


def compared(
    name: str,
    kind: str,
    document: dict[str, Any],
    model: Callable[[], instantiated.Counts],
    length: int | None = LENGTH,
) -> Case:
    """Compares a config read by an importer with the instantiated model."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.json"
        path.write_text(json.dumps(document), encoding="utf-8")
        try:
            found = instantiated.told(str(path), kind, length, decode=False)
        except InputError as error:
            return Case(name, "refused", str(error).removeprefix(str(path)).removeprefix(": "))
        except Exception:
            return Case(name, "traceback", traceback.format_exc(limit=-2))
        try:
            counts = model()
        except Exception as error:
            return Case(name, "not run by transformers", f"{type(error).__name__}: {error}"[:120])
        if counts.decode is not None:
            try:
                found = instantiated.told(str(path), kind, length)
            except InputError as error:
                return Case(name, "wrong", f"no decoding step: {error}")
    if counts.forward < 0:
        found = found._replace(forward=counts.forward)
    kept = "exact" if counts.forward >= 0 else "parameters only exact"
    return Case(name, kept) if found == counts else Case(name, "wrong", f"{found} here, {counts} there")


def measured(model: Any, length: int = LENGTH) -> instantiated.Counts:
    """Returns parameters and FLOPs of a model, or parameters only if a forward pass depends on values."""
    try:
        return instantiated.counted(model, length)
    except Exception:
        return instantiated.Counts(instantiated.parameters(model), -1)


def documents(config: Any, name: str) -> Iterator[dict[str, Any]]:
    """Yields the config as save_pretrained writes it, and with all keys."""
    config.architectures = [name]
    for short in (True, False):
        yield json.loads(config.to_json_string(use_diff=short))


def defaults(only: list[str]) -> Iterator[Case]:
    """Compares every causal language model with its default config."""
    for kind in only or instantiated.causal_kinds():
        try:
            config = transformers.CONFIG_MAPPING[kind]()
            with torch.device("meta"):
                name = transformers.MODEL_FOR_CAUSAL_LM_MAPPING[type(config)].__name__
        except Exception as error:
            yield Case(kind, "not run by transformers", f"{type(error).__name__}: {error}"[:120])
            continue
        counts: list[instantiated.Counts] = []

        def model(config: Any = config, counts: list[instantiated.Counts] = counts) -> instantiated.Counts:
            if not counts:
                with torch.device("meta"):
                    counts.append(measured(instantiated.causal(config)))
            return counts[0]

        cases = [compared(kind, kind, document, model) for document in documents(config, name)]
        yield next((case for case in cases if case.outcome != "exact"), cases[0])


def heads(only: list[str]) -> Iterator[Case]:
    """Compares every class of every family with a small config."""
    wholes = ("gemma3", "llama4", "mistral3")  # only the text part is counted; it has a separate model type
    kinds = [kind for kind in only or FAMILIES if kind in transformers.CONFIG_MAPPING and kind not in wholes]
    for kind, found in instantiated.classes(kinds):
        config = instantiated.configured(kind)
        config.num_labels = 2 if found.__name__.endswith("QuestionAnswering") else 5

        def model(found: Any = found, config: Any = config) -> instantiated.Counts:
            made = instantiated.instance(found, config)
            forward, _ = instantiated.products(made, **instantiated.inputs(made))
            return instantiated.Counts(instantiated.parameters(made), forward)

        length = None if kind == "vit" else instantiated.LENGTH  # the number of patches is fixed by the image size
        yield compared(f"{kind}: {found.__name__}", kind, next(documents(config, found.__name__)), model, length)


def absent(only: list[str]) -> Iterator[Case]:
    """Compares every causal family with each key of a small config removed. The importer must use the default of
    transformers, or raise an error.
    """
    for kind in only or [kind for kind in FAMILIES if kind in instantiated.causal_kinds()]:
        config = instantiated.configured(kind)
        made = type(config)
        name = transformers.MODEL_FOR_CAUSAL_LM_MAPPING.get(made, type(None)).__name__
        whole = next(documents(config, name))
        for key in whole.keys() - OUTSIDE:
            document = {other: value for other, value in whole.items() if other != key}

            def model(document: dict[str, Any] = document, made: Any = made) -> instantiated.Counts:
                return measured(instantiated.causal(made.from_dict(dict(document))), instantiated.LENGTH)

            yield compared(f"{kind} without {key}", kind, document, model, instantiated.LENGTH)


PARTS = {"defaults": defaults, "heads": heads, "absent": absent}


def main() -> None:
    """Prints outcomes and differences. Exits with 1 if the target is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", default=[], metavar="KIND")
    parser.add_argument("--part", choices=PARTS, action="append")
    asked = parser.parse_args()
    warnings.filterwarnings("ignore")
    transformers.logging.set_verbosity_error()
    print(f"transformers {transformers.__version__}, torch {torch.__version__}")
    missed = False
    for part in asked.part or PARTS:
        start, outcomes = time.perf_counter(), defaultdict(list)
        for case in PARTS[part](asked.only):
            outcomes[case.outcome].append(case)
        print(f"\n{part}: {sum(map(len, outcomes.values()))} in {time.perf_counter() - start:.0f} s")
        for outcome, cases in sorted(outcomes.items()):
            print(f"  {outcome}: {len(cases)}")
            short = outcome in ("exact", "parameters only exact") or (
                outcome == "refused" and part != "heads" and not asked.only
            )
            if short and part == "defaults":
                print(f"    {', '.join(case.name for case in cases)}")
            elif not short:
                print("\n".join(f"    {case.name}: {case.detail}" for case in cases))
        missed |= bool(outcomes["wrong"] or outcomes["traceback"])
        missed |= part == "defaults" and not asked.only and len(outcomes["exact"]) < BAR["exact"]
    sys.exit(missed)


if __name__ == "__main__":
    main()
