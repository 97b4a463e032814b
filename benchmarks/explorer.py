"""The explorer in a headless Chromium: random states against the library, and the time from a slider to its figures.

Usage: python benchmarks/explorer.py [STATES]. It needs Chromium.
"""

from __future__ import annotations

import json
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))

import test_explorer as tests  # noqa: E402 - from the folder above
from browser import Browser  # noqa: E402

from perfmodel import hardware  # noqa: E402
from perfmodel.config_files import workload  # noqa: E402
from perfmodel.explorer import model  # noqa: E402
from perfmodel.explorer.page import page  # noqa: E402

CONFIGS = (
    "llama-3-70b", "llama-3-8b", "gpt2-124m", "mixtral-8x7b", "deepseek-v3", "gemma-3-4b", "mamba-130m", "gpt-oss-20b",
    "bert-base-uncased", "conv1d-8192",
)  # fmt: skip
GPUS = ("h100", "h200", "a100", "t4", "l4", "b200", "v100-sxm2-32gb", "mi300x")
AT_ONCE = 100
MOVES = 200
# Moves a slider, and returns the milliseconds of each frame: all figures, the chart, the table, the controls.
SLIDE = """(async () => { const found = [], slide = document.querySelector('[name="slide-%s"]'), last = +slide.max;
  for (let i = 0; i < %d; i++) { slide.value = Math.round(last / 2 + (last / 3) * Math.sin(i)); slide.dispatchEvent(new Event('input', { bubbles: true }));
    await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))); found.push(page.lasted); }
  return found; })()"""
STATES = (
    ("llama-3-70b (80 layers), prefill", "model=llama-3-70b&phase=prefill", "N"),
    ("llama-3-70b (80 layers), decode", "model=llama-3-70b&phase=decode", "S"),
    ("llama-3-70b (80 layers), train", "model=llama-3-70b&phase=train", "N"),
    ("the same on 16 GPUs", "model=llama-3-70b&phase=train&B=64&plan.tp=8&plan.dp=2", "N"),
    ("deepseek-v3 (61 layers), decode", "model=deepseek-v3&phase=decode", "S"),
)


def compare(browser: Browser, number: int) -> None:
    """Prints how many states agree, and the largest relative difference."""
    configs, gpus = [workload(name) for name in CONFIGS], [hardware.gpu(name) for name in GPUS]
    draw = random.Random(number)
    states = [tests.drawn_state(draw, configs, len(gpus)) for _ in range(number)]
    browser.run(tests.FIGURES + "; window.figures = figures")
    compared = refused = wrong = 0
    largest = 0.0
    for start in range(0, number, AT_ONCE):
        part = states[start : start + AT_ONCE]
        found = json.loads(browser.run(f"JSON.stringify({json.dumps(part)}.map(figures))"))
        for state, own in zip(part, found, strict=True):
            config, gpu, *rest = state
            expected = tests.figures(model.State(configs[config], gpus[gpu], *rest))
            if isinstance(expected, str):
                refused += 1
                wrong += own != expected.partition(" Did you mean")[0]
                continue
            compared += len(expected)
            equal = len(own) == len(expected) and all(map(tests.same, own, expected))
            wrong += not equal
            pairs = [(a, b) for a, b in zip(own, expected, strict=False) if isinstance(b, float) and b]
            largest = max(largest, *(abs(a / b - 1.0) for a, b in pairs)) if equal else largest
    print(f"{number:,} states, {refused:,} refused by both; {compared:,} figures and cells; {wrong} states differ; "
          f"largest relative difference {largest:.1e}")  # fmt: skip


def slide(browser: Browser, file: Path) -> None:
    """Prints the time of a frame for several models."""
    for name, address, symbol in STATES:
        browser.open("about:blank")
        browser.open(f"{file.as_uri()}#{address}")
        browser.run(SLIDE % (symbol, MOVES))  # the browser compiles what runs often
        begun, times = spent(browser), browser.run(SLIDE % (symbol, MOVES))
        each = (spent(browser) - begun) / MOVES
        print(f"{name}: {each:.1f} ms of processor time per move; from input to figures: median {statistics.median(times):.1f} ms, "
              f"90 % below {statistics.quantiles(times, n=10)[-1]:.1f} ms")  # fmt: skip


def spent(browser: Browser) -> float:
    """Milliseconds of processor time of the page's thread: scripts, styles and layout."""
    found = {one["name"]: one["value"] for one in browser.send("Performance.getMetrics")["metrics"]}
    return 1e3 * (found["ScriptDuration"] + found["LayoutDuration"] + found["RecalcStyleDuration"])


def main() -> None:
    number = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    with tempfile.TemporaryDirectory() as folder:
        file, begun = Path(folder) / "explorer.html", time.perf_counter()
        file.write_text(
            page([workload(name) for name in CONFIGS], [hardware.gpu(name) for name in GPUS]), encoding="utf-8"
        )
        made_s, size = time.perf_counter() - begun, file.stat().st_size
        print(f"{len(CONFIGS)} models and {len(GPUS)} cards: {size / 1e6:.2f} MB, written in {made_s:.1f} s")
        with Browser() as browser:
            browser.window(1440, 900)
            browser.send("Performance.enable", timeDomain="threadTicks")
            browser.open(file.as_uri())
            slide(browser, file)
            browser.open(file.as_uri())
            compare(browser, number)
            print(f"errors of the page: {browser.errors or 'none'}")


if __name__ == "__main__":
    main()
