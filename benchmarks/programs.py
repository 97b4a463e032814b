"""Whole programs: models of transformers as people run them, measured on a card and predicted from a capture.

python benchmarks/programs.py measure -o FILE.jsonl [--only NAME,...] [--compiled] [--trace-folder DIR]     needs a GPU
python benchmarks/programs.py compare FILE.jsonl [--gpu GPU] [--by operator|program]        needs torch, no GPU

A record holds the time of one step (eager; CUDA graph; compiled), the peak memory, and the time of every kernel by the
operator that launched it. Weights are random. ``fit`` programs may be fitted to, ``held out`` ones are for judging.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

HERE = Path(__file__).resolve().parent
# ``kernels.py`` beside this script would hide the package of that name, which transformers imports.
sys.path[:] = [folder for folder in sys.path if Path(folder or ".").resolve() != HERE]
CONFIGS = HERE.parent / "configs"
RUNS, WARM_UP = 15, 4


class Spec(NamedTuple):
    """One program: a model's config, what it does, and its sizes. ``N``: tokens of a prompt, or cached tokens."""

    config: str
    phase: str
    B: int
    N: int
    dtype: str = "bfloat16"
    held_out: bool = False
    optimizer: str = "fused"
    captured: bool = True  # whether a CUDA graph of it can be captured

    @property
    def name(self) -> str:
        plain = "" if self.dtype == "bfloat16" else f" {self.dtype}"
        how = "" if self.phase != "train" or self.optimizer == "fused" else f" {self.optimizer}"
        return f"{self.config} {self.phase} {self.B}x{self.N}{plain}{how}"


def _three(
    config: str, prompt: tuple[int, int], decode: tuple[int, int], train: tuple[int, int], **words: Any
) -> list[Spec]:
    return [
        Spec(config, phase, B, N, **words) for phase, (B, N) in (("prompt", prompt), ("decode", decode), ("train", train)) if B
    ]  # fmt: skip


NONE = (0, 0)
PROGRAMS = (
    *_three("llama-3.2-1b", (4, 1024), (8, 2048), (2, 1024)),
    *_three("qwen2.5-0.5b", (8, 512), (32, 1024), (8, 512)),
    *_three("gpt2-medium", (8, 512), (16, 512), (4, 512)),
    *_three("pythia-160m", (16, 512), (64, 512), (16, 512)),
    *_three("opt-125m", (16, 256), (8, 1024), (16, 256), dtype="float16", captured=False),
    *_three("gemma-2-2b", (2, 1024), (4, 1024), NONE),
    *_three("vit-large-patch16-224", (32, 0), NONE, (16, 0), dtype="float16"),
    *_three("t5-base", (8, 256), NONE, (8, 256)),
    *_three("bert-large-uncased", (16, 256), NONE, (8, 256)),
    Spec("qwen2.5-0.5b", "train", 4, 512, "float32", optimizer="foreach"),
    *_three("smollm2-1.7b", (2, 2048), (16, 1024), (2, 512), held_out=True),
    *_three("qwen3-1.7b", (4, 512), (4, 4096), NONE, held_out=True),
    *_three("pythia-1.4b", (4, 512), (8, 1024), (2, 512), held_out=True),
    *_three("gpt2-large", (4, 1024), (8, 512), (2, 1024), held_out=True),
    *_three("phi-3-mini-4k", (1, 1024), (16, 1024), NONE, held_out=True),
    *_three("bert-base-uncased", (64, 128), NONE, (32, 128), held_out=True),
    *_three("whisper-base", (8, 64), NONE, NONE, held_out=True),
    *_three("qwen1.5-moe-a2.7b", (2, 512), (4, 512), NONE, held_out=True),
)
# Measured after everything was fitted: models and sizes that no figure has seen.
UNSEEN = (
    *_three("llama-3-8b", (1, 2048), (16, 2048), NONE, held_out=True),
    *_three("mistral-7b-v0.3", (2, 1024), (4, 4096), NONE, held_out=True),
    *_three("qwen2.5-7b", (1, 1024), (32, 512), NONE, held_out=True),
    *_three("phi-2", (4, 512), (8, 1024), (1, 1024), held_out=True, dtype="float16"),
    *_three("tinyllama-1.1b", (8, 512), (16, 1024), (4, 512), held_out=True),
    *_three("gpt2", (16, 1024), (32, 512), (8, 1024), held_out=True),
    *_three("gemma-2b", (2, 512), (8, 512), NONE, held_out=True),
    *_three("falcon-7b", (1, 1024), (8, 1024), NONE, held_out=True, captured=False),
    *_three("gpt-neo-2.7b", (2, 512), (4, 512), NONE, held_out=True, captured=False, dtype="float16"),
    *_three("gpt-j-6b", (1, 512), (8, 512), NONE, held_out=True, captured=False, dtype="float16"),
    *_three("bloom-3b", (2, 512), (4, 512), NONE, held_out=True, captured=False),
    *_three("deepseek-v2-lite", (1, 512), NONE, NONE, held_out=True, captured=False),
    *_three("vit-base-patch16-224", (128, 0), NONE, (64, 0), held_out=True),
    *_three("t5-large", (4, 128), NONE, (2, 128), held_out=True),
    *_three("phi-4-mini", (2, 512), (8, 512), NONE, held_out=True),
    *_three("gemma-3-1b", (4, 512), (8, 1024), NONE, held_out=True),
)


def build(spec: Spec, device: str) -> Callable[[], Any]:
    """Returns one step of a program on a device; the device ``meta`` holds no data."""
    from perfmodel.capture.models import step

    phase = "prefill" if spec.phase == "prompt" else spec.phase
    path = str(CONFIGS / f"{spec.config}.json")
    sizes = {"B": spec.B, "N": max(1, spec.N), "S": max(1, spec.N)}
    return step(path, phase, **sizes, dtype=spec.dtype, device=device, optimizer=spec.optimizer)


# --- measuring


def measure(spec: Spec, compiled: bool, folder: Path | None) -> dict[str, Any]:
    """Returns the record of a program on this machine's GPU."""
    import torch

    before = torch.cuda.memory_allocated()  # what earlier programs of this process have left
    step = build(spec, "cuda")
    for _ in range(WARM_UP):
        step()
    torch.cuda.synchronize()
    resident = torch.cuda.memory_allocated() - before
    torch.cuda.reset_peak_memory_stats()
    step()
    torch.cuda.synchronize()
    record: dict[str, Any] = {
        "program": spec.name, **spec._asdict(), "resident_byte": resident, "peak_byte": torch.cuda.max_memory_allocated() - before,
        "eager_s": _wall_s(torch, step),
    }  # fmt: skip
    kernels, host = _profile(torch, step, folder / f"{_file(spec)}-eager.json" if folder else None)
    record |= {"kernel_s": sum(row[4] for row in kernels), "kernels": kernels, "host": host}
    if spec.phase != "train" and spec.captured:
        record["graph_s"] = _graph_s(torch, step, folder / f"{_file(spec)}-graph.json" if folder else None)
    if compiled:
        record |= _compiled(torch, step, folder / f"{_file(spec)}-compiled.json" if folder else None)
    return record


def _file(spec: Spec) -> str:
    return spec.name.replace(" ", "-")


def _wall_s(torch: Any, step: Callable[[], Any], runs: int = RUNS) -> float:
    """The median time of a step, the device idle before and after it; and back to back, whichever is less."""
    times = []
    for _ in range(runs):
        torch.cuda.synchronize()
        start = time.perf_counter()
        step()
        torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return median(times)


def _graph_s(torch: Any, step: Callable[[], Any], trace: Path | None) -> float | None:
    """The median replay of a CUDA graph of the step, or None where it cannot be captured."""
    try:
        side = torch.cuda.Stream()
        with torch.cuda.stream(side):
            step()
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            step()
    except Exception as error:
        print(f"    no graph: {str(error).splitlines()[0]}", file=sys.stderr)
        torch.cuda.synchronize()
        return None
    seconds = _wall_events(torch, graph.replay)
    if trace:
        _profile(torch, graph.replay, trace)
    return seconds


def _wall_events(torch: Any, run: Callable[[], Any]) -> float:
    times = []
    for _ in range(RUNS):
        first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        first.record()
        run()
        last.record()
        torch.cuda.synchronize()
        times.append(first.elapsed_time(last) * 1e-3)
    return median(times)


def _compiled(torch: Any, step: Callable[[], Any], trace: Path | None) -> dict[str, Any]:
    torch._dynamo.reset()
    fast = torch.compile(step)
    try:
        start = time.perf_counter()
        for _ in range(WARM_UP):
            fast()
        torch.cuda.synchronize()
        took = time.perf_counter() - start
        seconds = _wall_s(torch, fast)
        kernels, _ = _profile(torch, fast, trace)
    except Exception as error:
        print(f"    not compiled: {str(error).splitlines()[0]}", file=sys.stderr)
        return {}
    names = [[row[3], row[2], row[4]] for row in kernels]
    return {
        "compiled_s": seconds,
        "compiled_kernel_s": sum(row[2] for row in names),
        "compiled_kernels": names,
        "compile_s": took,
    }


def _profile(torch: Any, step: Callable[[], Any], keep: Path | None) -> tuple[list[list[Any]], dict[str, Any]]:
    """Runs a step under the profiler. Returns [operator, inputs, count, kernel, seconds] rows, and operator counts."""
    from torch.profiler import ProfilerActivity, profile

    def once() -> Any:
        with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA], record_shapes=True) as found:
            with torch.profiler.record_function("step"):
                step()
            torch.cuda.synchronize()
        return found

    once()
    found = once()
    with tempfile.TemporaryDirectory() as folder:
        path = keep or Path(folder) / "trace.json"
        found.export_chrome_trace(str(path))
        events = json.loads(path.read_text())["traceEvents"]
    return _grouped(events)


def _grouped(events: list[dict[str, Any]]) -> tuple[list[list[Any]], dict[str, Any]]:
    operators: dict[int, dict[str, Any]] = {}
    counts: dict[str, int] = {}
    for event in events:
        if event.get("cat") == "cpu_op":
            operators[event["args"].get("External id", -1)] = event
            counts[event["name"]] = counts.get(event["name"], 0) + 1
    rows: dict[tuple[str, ...], list[Any]] = {}
    for event in events:
        if event.get("cat") not in ("kernel", "gpu_memcpy", "gpu_memset"):
            continue
        owner = operators.get(event["args"].get("External id", -1), {"name": "", "args": {}})
        given = owner["args"]
        inputs = [given.get(word, []) for word in ("Input Dims", "Input type", "Input Strides", "Concrete Inputs")]
        key = (owner["name"], json.dumps(inputs), event["name"][:160])
        row = rows.setdefault(key, [owner["name"], inputs, 0, event["name"][:160], 0.0])
        row[2] += 1
        row[4] += event["dur"] * 1e-6
    for row in rows.values():
        row[4] = round(row[4], 10)
    return sorted(rows.values(), key=lambda row: -row[4]), {"operators": counts}


def _environment() -> dict[str, Any]:
    import torch
    import transformers

    return {
        "environment": {
            "gpu": torch.cuda.get_device_name(), "torch": torch.__version__, "cuda": torch.version.cuda,
            "transformers": transformers.__version__, "python": sys.version.split()[0], "date": time.strftime("%Y-%m-%d"),
        }
    }  # fmt: skip


def command_measure(options: argparse.Namespace) -> None:
    import gc

    import torch

    only = options.only.split(",") if options.only else None
    deadline = time.perf_counter() + options.seconds
    with open(options.output, "a", encoding="utf-8") as file:
        file.write(json.dumps(_environment()) + "\n")
        for spec in UNSEEN if options.unseen else PROGRAMS:
            chosen = not only or any(spec.name.startswith(word) for word in only)
            if not chosen or spec.held_out < options.held_out or time.perf_counter() > deadline:
                continue
            start = time.perf_counter()
            try:
                record = measure(spec, options.compiled, options.trace_folder)
            except Exception as error:
                record = {"program": spec.name, "error": f"{type(error).__name__}: {str(error)[:300]}"}
            file.write(json.dumps(record) + "\n")
            file.flush()
            shown = {k: v for k, v in record.items() if k.endswith(("_s", "_byte", "error"))}
            print(f"{spec.name}: {shown} [{time.perf_counter() - start:.0f} s]", flush=True)
            gc.collect()
            torch.cuda.empty_cache()


def records(path: str) -> Iterator[dict[str, Any]]:
    with open(path, encoding="utf-8") as file:
        yield from (json.loads(line) for line in file)


# --- comparing with a capture


def predicted(spec: Spec) -> Any:
    """Returns the program as it is captured on the meta device."""
    from perfmodel.capture import capture

    return capture(build(spec, "meta"), name=spec.name)


# The operator that launches the kernels, where a profiler shows another name than the one captured.
INNER = {
    "_to_copy": "copy_", "clone": "copy_", "contiguous": "copy_", "_scaled_dot_product_cudnn_attention": "_cudnn_attention_forward",
    "_scaled_dot_product_cudnn_attention_backward": "_cudnn_attention_backward", "zeros": "fill_", "zero_": "fill_", "ones": "fill_",
    "full": "fill_", "scalar_tensor": "fill_", "zeros_like": "fill_", "embedding": "index_select", "convolution": "cudnn_convolution",
    "_safe_softmax": "_softmax", "add_": "add", "relu": "clamp_min", "masked_fill": "masked_fill_", "slice_backward": "copy_",
    "stack": "cat", "repeat": "copy_", "index": "gather",
}  # fmt: skip


class Compared(NamedTuple):
    """A program's predicted figures divided by the measured ones, and seconds by operator: (predicted, measured)."""

    spec: Spec
    ratios: dict[str, float]
    operators: dict[str, list[float]]
    counts: str


def compared(record: dict[str, Any], spec: Spec, card: Any, knowledge: str | None) -> Compared:
    """Captures a program, prices it and compares it with its record."""
    program = predicted(spec)
    graph, eager = program.on(card, "graph", knowledge), program.on(card, "eager", knowledge)
    ratios = {
        "graph": graph.total.expected_s / record["kernel_s"],
        "eager": eager.total.expected_s / record["eager_s"],
        "peak": graph.peak_byte / record["peak_byte"],
    }
    if "compiled_s" in record:
        compiled = program.on(card, "compiled", knowledge)
        ratios["compiled"] = compiled.total.expected_s / record["compiled_s"]
        ratios["compiled kernels"] = compiled.total.kernel_s / record["compiled_kernel_s"]
    operators: dict[str, list[float]] = {}
    for row in graph.rows:
        name = row.source.removeprefix("aten::")
        operators.setdefault(INNER.get(name, name), [0.0, 0.0])[0] += row.expected_s
    for operator, _, _, _, seconds in record["kernels"]:
        name = operator.removeprefix("aten::")
        operators.setdefault(INNER.get(name, name), [0.0, 0.0])[1] += seconds
    kernels = sum(row[2] for row in record["kernels"])
    return Compared(spec, ratios, operators, f"{graph.total.kernels} of {kernels} kernels")


def command_compare(options: argparse.Namespace) -> None:
    from perfmodel import gpu

    card = gpu(options.gpu)
    _print_version(options.file)
    found: list[Compared] = []
    for record in records(options.file):
        if "kernels" not in record or (options.only and not record["program"].startswith(options.only)):
            continue
        spec = Spec(**{name: record.get(name, Spec._field_defaults.get(name)) for name in Spec._fields})
        try:
            one = compared(record, spec, card, options.knowledge)
        except Exception as error:
            print(f"{spec.name:40s} {type(error).__name__}: {str(error)[:150]}")
            continue
        found.append(one)
        ratios = "  ".join(f"{what} {100 * ratio - 100:+6.1f} %" for what, ratio in one.ratios.items())
        print(f"{spec.name:40s} {ratios}  {one.counts}")
        if options.detail:
            _print_operators(one.operators, 12)
    _print_errors(found)
    whole: dict[str, list[float]] = {}
    for one in found:
        measured = sum(pair[1] for pair in one.operators.values())
        for name, (mine, theirs) in one.operators.items():
            pair = whole.setdefault(name, [0.0, 0.0])
            pair[0] += mine / measured
            pair[1] += theirs / measured
    print("by operator, every program with the same weight:")
    _print_operators(whole, 45)


def _print_version(path: str) -> None:
    """Prints a note if the models of the record are those of another transformers, which may run other kernels."""
    with open(path, encoding="utf-8") as file:
        recorded = json.loads(file.readline()).get("environment", {}).get("transformers")
    if recorded != version("transformers"):
        print(
            f"{path}: recorded with transformers {recorded}, {version('transformers')} is installed; the same version is "
            f"accepted, because others may run other kernels. Install transformers=={recorded}.",
            file=sys.stderr,
        )


def _print_errors(found: list[Compared]) -> None:
    errors: dict[tuple[str, bool], list[float]] = {}
    for one in found:
        for what, ratio in one.ratios.items():
            errors.setdefault((what, one.spec.held_out), []).append(100 * (ratio - 1.0))
    for (what, held_out), values in sorted(errors.items()):
        mean, bias = sum(map(abs, values)) / len(values), sum(values) / len(values)
        print(
            f"{what} {'held out' if held_out else 'fit'}: mean error {mean:.1f} %, bias {bias:+.1f} % of {len(values)}"
        )


def _print_operators(pairs: dict[str, list[float]], most: int) -> None:
    """Prints the operators whose predicted and measured seconds differ most, as shares of the measured time."""
    measured = sum(pair[1] for pair in pairs.values()) or 1.0
    for name, (mine, theirs) in sorted(pairs.items(), key=lambda item: -abs(item[1][0] - item[1][1]))[:most]:
        ratio = f"{mine / theirs:5.2f}" if theirs else "    -"
        print(
            f"  {name:44s} share {100 * theirs / measured:5.2f} %  predicted/measured {ratio}  off {100 * (mine - theirs) / measured:+5.2f} %"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("measure")
    one.add_argument("-o", "--output", required=True)
    one.add_argument("--only", default="")
    one.add_argument("--compiled", action="store_true")
    one.add_argument("--unseen", action="store_true", help="programs that were drawn after all fits")
    one.add_argument("--held-out", action="store_true", help="only programs that nothing is fitted to")
    one.add_argument("--trace-folder", type=Path)
    one.add_argument("--seconds", type=float, default=1e9)
    one.set_defaults(run=command_measure)
    two = commands.add_parser("compare")
    two.add_argument("file")
    two.add_argument("--gpu", default="h100")
    two.add_argument("--knowledge")
    two.add_argument("--only", default="")
    two.add_argument("--detail", action="store_true")
    two.set_defaults(run=command_compare)
    options = parser.parse_args()
    options.run(options)


if __name__ == "__main__":
    main()
