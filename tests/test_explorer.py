"""The explorer's page in a real browser: its figures are the library's, and it can be used by pointer, key and link."""

import importlib
import json
import random
import sys

import pytest
from browser import CHROMIUM, Browser
from command import check_refused, perfmodel

from perfmodel import hardware, ops
from perfmodel.errors import InputError
from perfmodel.explorer import controls, model
from perfmodel.explorer import page as pages
from perfmodel.explorer.compiler.errors import UntranslatableError
from perfmodel.explorer.compiler.program import Program
from perfmodel.roofline import rates
from perfmodel.solve import solve
from perfmodel.workload import workload

CONFIGS = ("llama-3-8b", "gpt2-124m", "mixtral-8x7b", "deepseek-v2-lite", "conv1d-8192")
GPUS = ("h100", "t4", "h200")
STATES = 200
EXACT = 1e-12  # relative: sums of doubles in another order

needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")


@pytest.fixture(scope="module")
def subjects():
    return [workload(name) for name in CONFIGS], [hardware.gpu(name) for name in GPUS]


@pytest.fixture(scope="module")
def file(subjects, tmp_path_factory):
    path = tmp_path_factory.mktemp("explorer") / "explorer.html"
    path.write_text(pages.page(*subjects), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def chromium():
    with Browser() as browser:
        browser.window(1440, 900)
        yield browser


@pytest.fixture
def browser(chromium, file):
    """The page, as opened first; a test fails if the page reports an error or asks for anything else."""
    chromium.errors.clear()
    chromium.requests.clear()
    chromium.open("about:blank")
    chromium.open(file.as_uri())
    yield chromium
    assert chromium.errors == []
    assert {one for one in chromium.requests if not one.startswith(("data:", "blob:", "about:"))} == {file.as_uri()}


def opened(browser, file, address):
    browser.open("about:blank")
    browser.open(f"{file.as_uri()}#{address}")


# --- the figures

FIGURES = """
function figures(given) {
  const [config, gpu, phase, sizes, dtypes, fused, causal, plan, form] = given;
  const dict = (one) => perfmodel.dict(Object.entries(one));
  const state = new perfmodel.State(perfmodel.workloads[config], perfmodel.gpus[gpu], phase, dict(sizes), dict(dtypes), fused, causal, dict(plan), form);
  let found;
  try { found = perfmodel.shown(state); } catch (error) {
    if (error instanceof perfmodel.InputError) return error.message;
    throw error;
  }
  const { analysis, table, card, memory, estimate } = found, total = analysis.total, expected = total.expected;
  return [
    total.flops, total.contraction_flops, total.traffic_byte, total.compulsory_byte, total.lower_s, total.no_overlap_s, total.bound,
    expected.expected_s, expected.low_s, expected.high_s, analysis.parameters.total, analysis.kv_cache_byte_per_token,
    ...analysis.rows.flatMap((row) => [row.name, row.flops, row.traffic_byte, row.bounds.lower_s, row.bounds.bound, row.expected.expected_s]),
    table.title, ...table.notes, ...table.headings, ...table.total, ...table.lines.flat(),
    ...card.points.flatMap((point) => [point.name, point.intensity, point.flop_per_s, point.height, point.share]),
    ...(memory === null ? [] : memory.lines.flatMap((line) => [line.name, line.byte_per_gpu, line.formula])),
    ...(estimate === null ? [] : [estimate.lower_s, estimate.expected_s, estimate.no_overlap_s, estimate.mfu, estimate.memory_byte, estimate.fits]),
  ];
}
"""


def figures(state):
    """The same figures from the library; the message where it refuses the state."""
    try:
        found = model.shown(state)
    except InputError as error:
        return str(error)
    total, expected = found.analysis.total, found.analysis.total.expected
    rows, points, estimate = found.analysis.rows, found.card.points, found.estimate
    return [
        *total[:2], *total[2:6], total.bound, expected.expected_s, expected.low_s, expected.high_s,
        found.analysis.parameters.total, found.analysis.kv_cache_byte_per_token,
        *(x for r in rows for x in (r.name, r.flops, r.traffic_byte, r.bounds.lower_s, r.bounds.bound, r.expected.expected_s)),
        found.table.title, *found.table.notes, *found.table.headings, *found.table.total,
        *(cell for line in found.table.lines for cell in line),
        *(x for p in points for x in (p.name, p.intensity, p.flop_per_s, p.height, p.share)),
        *(x for line in (found.memory.lines if found.memory else ()) for x in (line.name, line.byte_per_gpu, line.formula)),
        *((estimate.lower_s, estimate.expected_s, estimate.no_overlap_s, estimate.mfu, estimate.memory_byte, estimate.fits)
          if estimate else ()),
    ]  # fmt: skip


def drawn_state(draw, configs):
    """A random state as JSON: places of the workload and the card, then what the controls can say."""
    number = draw.randrange(len(configs))
    chosen = configs[number]
    phase = draw.choice(list(chosen.phases))
    offered = controls.controls(chosen, phase)
    sizes = {one.symbol: draw.choice(one.steps) for one in offered if one.asked and draw.random() < 0.9}
    sizes = {name: min(size, 1 << 15) for name, size in sizes.items()}
    sizes |= {one.symbol: draw.choice(one.steps) for one in offered if not one.asked and draw.random() < 0.05}
    kinds = {"weight": ["fp16", "bf16", "fp8", "fp32", "int4"], "activation": ["fp16", "bf16", "fp32", "fp8"], "cache": ["fp16", "fp8"]}
    dtypes = {role: draw.choice(names) for role, names in kinds.items() if draw.random() < 0.4}
    plan = {"tp": draw.choice([1, 2, 4, 8]), "pp": draw.choice([1, 2, 4]), "dp": draw.choice([1, 2, 8])} if draw.random() < 0.4 else {}
    plan |= {"zero": draw.choice([0, 1, 3] if phase == "train" else [0, 3])} if draw.random() < 0.3 else {}
    forms = list(chosen.decode) if phase == "decode" else []
    form = draw.choice(forms) if forms and draw.random() < 0.5 else None
    return [number, draw.randrange(len(GPUS)), phase, sizes, dtypes, draw.random() < 0.7, draw.random() < 0.5, plan, form]


def same(ours, theirs):
    """Whether a figure of the page is that of the library: equal, or equal as a double."""
    if ours == theirs or isinstance(theirs, (str, bool, type(None))):
        return ours == theirs
    return (isinstance(theirs, float) or abs(theirs) > 2**53) and abs(ours - theirs) <= EXACT * abs(theirs)


@needs_browser
def test_figures_are_those_of_the_library(browser, subjects):
    draw = random.Random(20261126)
    states = [drawn_state(draw, subjects[0]) for _ in range(STATES)]
    browser.run(FIGURES + "; window.figures = figures")
    found = json.loads(browser.run(f"JSON.stringify({json.dumps(states)}.map(figures))"))
    computed = 0
    for state, own in zip(states, found, strict=True):
        config, gpu, *rest = state
        expected = figures(model.State(subjects[0][config], subjects[1][gpu], *rest))
        if isinstance(expected, str):
            assert own == expected.partition(" Did you mean")[0], state
            continue
        computed += 1
        assert len(own) == len(expected), state
        assert all(map(same, own, expected)), (state, next(pair for pair in zip(own, expected, strict=True) if not same(*pair)))
    assert computed > STATES / 2


@needs_browser
def test_formulas_give_the_counts_of_every_step(browser):
    found = browser.run("""
      ["model=llama-3-8b&gpu=h100-sxm5-80gb&phase=decode&B=8&N=3&causal=1", "model=mixtral-8x7b&gpu=h100-sxm5-80gb&phase=train&fused=0",
       "model=gpt2-124m&gpu=t4&phase=train&B=3&weight=fp32&cache=fp8", "model=conv1d-8192&gpu=t4"].map(read).flatMap((state) => {
        const view = viewOf(state), values = { ...Object.fromEntries(view.shown.analysis.dims.$items()), ...items(state) };
        const own = cases[perfmodel.case_of(state.model, state.phase, state.form || forms(state)[0] || "", isFused(state), isCausal(state))];
        return view.shown.analysis.rows.map((row) => [row.name, row.flops, row.traffic_byte, ...own[row.name].map((at) => Number(exactValue(trees[at], values)))]);
      })""")
    assert len(found) > 80
    rounded = {name for name, *_ in found if "experts" in name or "moe" in name}  # expected numbers of experts are no integers
    assert all(flops == own_flops and byte == own_byte for name, flops, byte, own_flops, own_byte in found if name not in rounded)
