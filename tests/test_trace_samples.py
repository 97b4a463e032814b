"""The sample traces beside the project, and the HTML page in a browser; each is skipped where it is missing."""

from __future__ import annotations

import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest
from traces import ADD, Written, product

import perfmodel as library

SAMPLES = Path(__file__).parents[2] / "shared" / "traces"
OWN = Path(__file__).parents[1] / "benchmarks" / "results" / "traces"
NAMES = ("train-gpt2", "tinyllama-decode-eager", "vit-inference", "gpt2-ddp-rank0", "gpt2-ddp-rank1")
KEPT = pytest.mark.skipif(not SAMPLES.is_dir(), reason="the sample traces are not beside the project")
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@cache
def traced(name):
    return library.trace(SAMPLES / f"{name}.json.gz")


@pytest.mark.parametrize(("name", "share"), [("bert-inference", 0.95), ("llama-decode-graph", 0.85)])
def test_measured_traces_are_tied_with_shapes_and_in_a_graph(name, share):
    found = library.trace(OWN / f"{name}.json.gz")
    assert found.main.known_share >= share
    assert found.spans.accounted_s == pytest.approx(found.spans.span_s, rel=0.01)


def test_copies_of_grouped_heads_are_found_in_a_graph():
    """The model has 32 query heads over 4 key heads of 64 and 22 layers; the graph has no shapes."""
    first = library.trace(OWN / "llama-decode-graph.json.gz").advice[0]
    assert "44 copies repeat each of 4 key heads 8 times" in first.because


@KEPT
@pytest.mark.parametrize("name", NAMES)
def test_kernels_are_tied_to_formulas_and_the_parts_add_up(name):
    found = traced(name)
    assert found.main.known_share >= 0.95
    assert found.spans.accounted_s == pytest.approx(found.spans.span_s, rel=0.01)


@KEPT
def test_the_logits_and_the_host_are_first_in_the_training_step():
    """Their README: a third of the kernel time is three products of 50257 columns, and the GPU waits 10 ms for the host."""
    first, second = traced("train-gpt2").advice[:2]
    assert {first.kind, second.kind} == {"misaligned", "host"}
    odd = first if first.kind == "misaligned" else second
    assert odd.what == "Pad the size 50257 to 50304"
    assert odd.measured_s > 0.3 * traced("train-gpt2").spans.kernel_s


@KEPT
def test_the_host_and_the_copies_are_first_in_the_decoding_step():
    """Their README: nearly half of the kernel time copies the KV cache, and 18 of 25 ms are host time."""
    host, copies = traced("tinyllama-decode-eager").advice[:2]
    assert (host.kind, copies.kind) == ("host", "copy")
    assert host.saves_s == pytest.approx(18e-3, rel=0.15)
    assert "44 copies repeat each of 4 key heads 8 times" in copies.because


@KEPT
def test_the_last_rank_is_the_one_that_the_other_waits_for():
    found = library.trace([SAMPLES / f"gpt2-ddp-rank{rank}.json.gz" for rank in (0, 1)])
    assert found.main.rank == 0
    assert [round(one.waiting_s * 1e3) for one in found.ranks] == [0, 27]
    assert found.ranks[1].spans.communication_exposed_s > 9e-3


def page(tmp_path):
    """The page of a small trace, with a script that acts on it and writes what it sees."""
    trace = Written()
    product(trace, 100, m=4096, k=1024, n=2048)
    trace.kernel(ADD, 300, 20, launched=290, grid=(8192, 1, 1))
    acts = """<script>
      const canvas = document.querySelector("#timeline canvas");
      canvas.dispatchEvent(new KeyboardEvent("keydown", {key: "ArrowRight", bubbles: true}));
      canvas.dispatchEvent(new KeyboardEvent("keydown", {key: "+", bubbles: true}));
      const filter = document.getElementById("kernel-filter");
      filter.value = "matmul";
      filter.dispatchEvent(new Event("input"));
      document.querySelector("[data-theme-toggle]").click();
      document.title = "seen: " + JSON.stringify([document.querySelector("#timeline .picked").textContent,
        document.querySelectorAll("#roofline circle").length, document.getElementById("kernel-count").textContent]);
    </script>"""
    text = library.trace(trace.save(tmp_path), gpu="h100").to_html()
    path = tmp_path / "page.html"
    path.write_text(text.replace("</body>", acts + "</body>"))
    return text, path


def test_the_page_needs_no_network(tmp_path):
    text, _ = page(tmp_path)
    assert "default-src 'none'" in text
    assert "http://www.w3.org/2000/svg" in text  # the name of a namespace, which no browser loads
    assert "http" not in text.replace("http-equiv", "").replace("http://www.w3.org/2000/svg", "")
    assert " src=" not in text


@pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed")
def test_the_page_opens_in_a_browser_and_its_parts_act(tmp_path):
    _, path = page(tmp_path)
    options = (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--virtual-time-budget=2000",
        "--enable-logging=stderr",
    )
    profile = f"--user-data-dir={tmp_path / 'profile'}"
    ran = subprocess.run(
        [BROWSER, *options, profile, "--dump-dom", path.as_uri()],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "CONSOLE" not in ran.stderr  # an error of a script
    title = ran.stdout.partition("<title>")[2].partition("</title>")[0]
    assert "matmul" in title
    assert "at 0 s" in title  # the first kernel is chosen
    assert ",2," in title  # dots of the roofline
    assert "1 of 2 rows" in title
