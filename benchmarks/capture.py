"""Captures every causal language model of the installed transformers and compares the products with torch's counter.

    python benchmarks/capture.py [TYPE...] [--train] [--processes 2] [--seconds 120]

Each type is built on the meta device from its default configuration with two layers, in a process of its own. The
contraction FLOPs of the captured program are compared with those of ``torch.utils.flop_counter`` for the same call. torch's
counter misses grouped products, so these are left out of the comparison; of the weight gradient of a grouped convolution it
counts too many, which are added. Last come the times of two models at full size.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import resource
import sys
import time
import traceback
import warnings
from collections import Counter
from contextlib import nullcontext

sys.path.pop(0)  # transformers looks for a package named kernels, and would find the script beside this one

import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, logging
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from perfmodel.aten import is_known, launched
from perfmodel.capture import capture
from perfmodel.capture.overrides import registered

TOKENS = 128
LAYERS = (
    "num_hidden_layers",
    "n_layer",
    "n_layers",
    "num_layers",
    "encoder_layers",
    "decoder_layers",
    "num_decoder_layers",
)
GROUPED = ("_grouped_mm", "_scaled_grouped_mm")
LLAMA = {"hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128256}  # fmt: skip


def shortened(config, layers=2):
    """The configuration with at most so many layers, also of its parts, and lists of one entry a layer cut to fit."""
    for name in LAYERS:
        count = getattr(config, name, None)
        if isinstance(count, int) and count > layers:
            for key, value in vars(config).items():
                if isinstance(value, list) and len(value) == count:
                    setattr(config, key, value[:layers])
            setattr(config, name, layers)
    for value in list(vars(config).values()):
        if hasattr(value, "to_dict"):
            shortened(value, layers)
    return config


def built(config, dtype=torch.bfloat16):
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config, dtype=dtype)


def tokens(count=TOKENS):
    return torch.empty(1, count, dtype=torch.int64, device="meta")


def products(program):
    """Contraction FLOPs of a program, without those of grouped products, which are returned apart."""
    counts = Counter()
    for step in program.steps:
        name = "grouped" if step.call.name in GROUPED else "others"
        counts[name] += sum(kernel.op.contraction_flops() for kernel in launched(without_causality(step.call)))
        counts["others"] += counted_too_often(step.call)
    return counts["others"], counts["grouped"]


def counted_too_often(call):
    """What torch counts of the weight gradient of a grouped convolution: every input with every output channel."""
    if call.name != "convolution_backward" or call.arguments[9] == 1 or not call.arguments[10][1]:
        return 0
    gradient, weight, groups = call.arguments[0], call.arguments[2], call.arguments[9]
    positions = gradient.shape[0] * math.prod(gradient.shape[2:])
    return (groups - 1) * 2 * weight.numel * positions


def without_causality(call):
    """torch counts all pairs of queries and keys, also those that a causal kernel leaves out."""
    if "attention" not in call.name or not hasattr(torch.ops.aten, call.name):
        return call
    schema = getattr(torch.ops.aten, call.name).default._schema
    kept = zip(schema.arguments, call.arguments, strict=False)
    return call._replace(arguments=tuple(False if given.name == "is_causal" else value for given, value in kept))


def reference(run, train):
    """torch's count of the same call, with the gradients of fused attention, which computes its scores twice."""
    try:
        with registered() if train else nullcontext(), FlopCounterMode(display=False) as mode:
            run()
    except Exception as error:
        return None, f"{type(error).__name__}: {error}"
    return mode.get_total_flops(), ""


def one(kind, train, answer):
    """Captures one type. Puts what was found, or the error, into the queue. Types whose layers differ need all of them."""
    warnings.simplefilter("ignore")
    logging.set_verbosity_error()
    torch.set_num_threads(1)
    for layers in (2, 1000):
        found = {"type": kind}
        try:
            model = built(shortened(CONFIG_MAPPING[kind](), layers))
        except Exception as error:
            found["no_model"] = f"{type(error).__name__}: {error}"[:300]
            continue
        found.update(attempt(model.train(train), train))
        if "error" not in found:
            break
    answer.put(found)


def attempt(model, train):
    def run():
        out = model(input_ids=tokens(), **({"labels": tokens()} if train else {}))
        if train:
            out.loss.backward()

    with torch.set_grad_enabled(train):
        try:
            begin = time.perf_counter()
            program = capture(run)
            seconds = time.perf_counter() - begin
        except Exception as error:
            plain = reference(run, train)[1]
            return {"error": traceback.format_exc(limit=-6), "itself": f"{type(error).__name__}: {error}" == plain}
        found = {"seconds": seconds, "calls": len(program.steps), "guesses": program.guesses, "notes": program.notes}
        found["unknown"] = sorted({s.call.name for s in program.steps if not is_known(s.call.name)})
        found["flops"], found["grouped"] = products(program)
        found["counted"], found["why"] = reference(run, train)
        if found["counted"] is None:
            found["counted_inside"] = inside(run)
        return found


def inside(run):
    """torch's count within a capture, for a model that asks for data: with the same guesses."""

    class Kept:  # a capture restores all that its function refers to, but not classes
        flops = None

    def counted():
        with FlopCounterMode(display=False) as mode:
            run()
        if Kept.flops is None:  # a second call is that of the compiled program
            Kept.flops = mode.get_total_flops()

    try:
        capture(counted)
    except Exception:
        return None
    return Kept.flops


def isolated(kinds, train, processes, seconds):
    """Yields what was found of every type, from processes that are ended after so many seconds."""
    context = multiprocessing.get_context("fork")
    waiting, running = list(kinds), []
    while waiting or running:
        while waiting and len(running) < processes:
            kind, answer = waiting.pop(0), context.SimpleQueue()
            process = context.Process(target=one, args=(kind, train, answer))
            process.start()
            running.append((process, answer, kind, time.monotonic()))
        for entry in list(running):
            process, answer, kind, begun = entry
            if not answer.empty():
                yield answer.get()
            elif process.is_alive() and time.monotonic() - begun < seconds:
                continue
            else:
                yield {"type": kind, "error": "no answer in time" if process.is_alive() else "the process ended"}
            process.kill()
            running.remove(entry)
        time.sleep(0.02)


def verdict(found):
    if "no_model" in found:
        return "not built"
    if "error" in found:
        return "fails by itself" if found.get("itself") else "not captured"
    counted = found["counted"] if found["counted"] is not None else found["counted_inside"]
    if counted is None:
        return "no reference"
    return "equal" if found["flops"] == counted else "differs"


def full_size():
    """Prints seconds and memory of the captures of Llama-3-8B and DeepSeek-V3."""
    for kind, sizes in (("llama", LLAMA), ("deepseek_v3", {})):
        begin = time.perf_counter()
        model = built(CONFIG_MAPPING[kind](**sizes))
        made = time.perf_counter() - begin
        with torch.no_grad():
            begin, busy = time.perf_counter(), time.process_time()
            program = capture(model, input_ids=tokens(2048))
            seconds, busy = time.perf_counter() - begin, time.process_time() - busy
        size = sum(p.numel() for p in model.parameters()) / 1e9
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        print(
            f"{kind}: {size:.0f} B parameters built in {made:.1f} s, captured in {seconds:.2f} s ({busy:.2f} s of processor time), {len(program.steps)} calls; process {peak:.2f} GB"
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("types", nargs="*")
    parser.add_argument("--train", action="store_true", help="with the backward pass")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=120, help="limit of one type")
    parser.add_argument("-o", "--output", help="file for one JSON line a type")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    if not given.types:
        full_size()
    verdicts, unknown = Counter(), Counter()
    output = open(given.output, "w") if given.output else None  # noqa: SIM115
    for found in isolated(
        given.types or sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES), given.train, given.processes, given.seconds
    ):
        said = verdict(found)
        verdicts[said] += 1
        unknown.update(found.get("unknown", ()))
        if output:
            print(json.dumps({**found, "verdict": said}), file=output, flush=True)
        if said != "equal" or given.types:
            detail = (
                found.get("no_model")
                or found.get("error")
                or found.get("why")
                or f"{found['flops']} and {found['counted']}"
            )
            print(f"{found['type']:28} {said:13} {detail.strip().splitlines()[-1][:140]}", flush=True)
    print(*(f"{count} {said}" for said, count in verdicts.most_common()), sep=", ")
    can_run = sum(verdicts.values()) - verdicts["not built"] - verdicts["fails by itself"]
    print(f"captured: {can_run - verdicts['not captured']} of {can_run} that run on the meta device")
    print(
        "operators without a rule:", ", ".join(f"{name} ({count})" for name, count in unknown.most_common()) or "none"
    )


if __name__ == "__main__":
    sys.exit(main())
