"""The roofline chart: positions of roofs and points, labels without overlap, and the output of the command."""

from __future__ import annotations

import re
import subprocess
import sys
from functools import cache
from itertools import combinations
from math import cos, radians, sin
from pathlib import Path

import pytest
from many import for_each

from perfmodel import chart
from perfmodel.__main__ import main
from perfmodel.chart import MEASURED, Card, Point, Roof, Run, Slope
from perfmodel.config_files import workload
from perfmodel.hardware import gpu
from perfmodel.report import picture, text_roofline
from perfmodel.report.families import families
from perfmodel.report.geometry import Box, along, beyond, crosses, spread
from perfmodel.report.placement import around, settled

pytestmark = pytest.mark.usefixtures("small_pictures")

CONFIGS = ("attention-stages", "attention-16x16384", "mlp-4096", "conv1d-8192", "decoder-block", "gpt2-124m",
           "flash-table-flash", "llama-2-7b-layer")  # fmt: skip
RESULTS = Path(__file__).parent.parent / "benchmarks" / "results"
CARDS = ("t4", "a100-sxm4-80gb", "h100-sxm5-80gb", "mi300x", "epyc-7763")


@cache
def founding(name: str, dtypes: tuple[str, ...] = ()) -> Card:
    forms = {"attention-stages": (None,), "attention-16x16384": (False, True), "mlp-4096": (None,)}
    forms["conv1d-8192"] = (False, True)
    runs = [
        Run(workload(config), fused=form, ending=" (fused)" if form else "")
        for config in forms
        for form in forms[config]
    ]
    return chart.card(gpu(name), runs, dtypes)


def of(name: str, config: str, **form: object) -> Card:
    return chart.card(gpu(name), [Run(workload(config), **form)])  # type: ignore[arg-type]


@cache
def deepseek() -> Card:
    """A model of 105 kernels, as the command draws it."""
    return chart.card(gpu("h100-sxm5-80gb"), [Run(workload("deepseek-v3"), phase="train")], most=10)


def point(card: Card, name: str) -> Point:
    return next(point for point in card.points if point.name == name)


def roof(card: Card, name: str) -> Roof:
    return next(roof for roof in card.roofs if roof.name == name)


# --- figures, each by hand


@for_each(
    ("name", "which", "ridge"),
    [
        ("a100-sxm4-80gb", "tensor fp16", 153.0),  # 312 TFLOP/s / 2039 GB/s
        ("a100-sxm4-80gb", "vector fp16", 38.25),  # 78 / 2.039
        ("a100-sxm4-80gb", "special", 1.195),  # 108 x 16 x 1.41 GHz = 2.436 TFLOP/s; / 2.039
        ("t4", "tensor fp16", 203.1),  # 65 / 0.320
        ("t4", "vector fp16", 50.88),  # 16.28 / 0.320
        ("textbook-a100", "tensor fp16", 208.0),  # 312 / 1.5
    ],
)
def test_ridge(name: str, which: str, ridge: float) -> None:
    card = founding(name)
    assert card.ridge(roof(card, which)) == pytest.approx(ridge, rel=5e-4)


def test_fused_convolution_on_a_t4() -> None:
    """2 x 3 FLOPs for each of 8192 x 8192 outputs. Input and output once, 2 bytes each; 3 taps and a bias per channel."""
    found = point(founding("t4"), "conv1d (fused)")
    assert found.intensity == 402_653_184 / 268_500_992  # 1.4996
    assert found.flop_per_s == pytest.approx(479.9e9, rel=1e-4)  # 320 GB/s x 1.4996
    assert found.bound == "memory"


def test_attention_on_an_a100_turns_compute_bound_when_fused() -> None:
    """2 B N N D FLOPs and one scale per score, over q, k and 32 heads of scores: 35.32e12 / 279.2e9 = 126.52, below
    153.
    """
    card = founding("a100-sxm4-80gb")
    scores, fused = point(card, "attention.scores"), point(card, "attention (fused)")
    flops, byte = 2 * 16 * 16384**2 * 4096 + 16 * 32 * 16384**2, 2 * (2 * 16 * 16384 * 4096 + 16 * 32 * 16384**2)
    assert scores.intensity == flops / byte
    assert scores.flop_per_s == pytest.approx(2039e9 * 126.523, rel=1e-4)
    assert scores.bound == "memory"
    assert (fused.bound, fused.flop_per_s) == ("tensor", 312e12)
    assert card.of_peak(fused) == 1.0


def test_softmax_on_a_t4_waits_for_memory() -> None:
    """5 FLOPs per score, which is read and written in 2 bytes: 1.25 FLOP/B x 320 GB/s = 400 GFLOP/s."""
    found = point(founding("t4"), "softmax")
    assert (found.intensity, found.flop_per_s) == (1.25, pytest.approx(400e9))
    assert (found.bound, found.roof) == ("memory", "vector fp16")
    assert founding("t4").of_peak(found) == pytest.approx(400e9 / 16.28e12)


def test_a_kernel_is_drawn_at_its_expected_speed() -> None:
    """FLOPs over the expected time: below the bound, as the expected time is longer than the minimum."""
    card = of("a100-sxm4-80gb", "llama-2-7b-layer")
    for found in card.points:
        assert found.expected_s
        assert 0 < found.height < found.flop_per_s
    project = point(card, "attention.project")  # 2 x 2048 x 4096 x 4096 FLOPs
    assert project.expected_s
    assert project.height == pytest.approx(2 * 2048 * 4096**2 / project.expected_s)
    assert sum(found.share or 0 for found in card.points) == pytest.approx(1.0)


def test_a_model_of_many_kernels_shows_those_that_hold_most_of_the_time() -> None:
    whole = of("h100-sxm5-80gb", "deepseek-v3", phase="train").points
    *named, others = deepseek().points
    assert len(whole) > 100
    assert len(named) <= 10
    assert sum(found.share or 0 for found in named) >= 0.95
    assert others.name == f"others ({len(whole) - len(named)} kernels, {100 * others.share:.1f} % of time)"  # type: ignore[operator]
    assert sum(found.share or 0 for found in deepseek().points) == pytest.approx(1.0)
    assert others.height < others.flop_per_s <= 989.4e12
    assert [found.name for found in named][-1] == "optimizer"
    assert max(len(found.name) for found in named) < 30
    assert page("ten")[0].get_size_inches()[1] < 6


def test_short_names_tell_kernels_apart() -> None:
    names = ["layers.0.moe.gate_up.backward.expert_weight_gradient", "layers.0.moe.gate_up.backward.expert_input_gradient",
             "layers.0.attention.backward", "layers.0.attention", "logits"]  # fmt: skip
    assert chart.short(names) == [
        "moe.gate_up, weight gradient", "moe.gate_up, input gradient", "0.attention, backward", "0.attention", "logits",
    ]  # fmt: skip
    assert chart.short(["dense.mlp.shared.up", "moe.mlp.shared.up"]) == ["dense.mlp.shared.up", "moe.mlp.shared.up"]


def test_work_without_flops_has_no_place() -> None:
    card = founding("t4")
    assert chart.unplaced([card, card]) == ["conv1d.pad"]
    assert card.of_peak(point(card, "conv1d.pad")) is None


@for_each("name", CARDS)
@for_each("config", CONFIGS)
def test_every_point_lies_under_its_slope_and_its_roof(name: str, config: str) -> None:
    for phase in workload(config).phases:
        card = of(name, config, phase=phase)
        for found in card.points:
            ceiling = min(
                card.slopes[0].byte_per_s * found.intensity, roof(card, found.roof).flop_per_s if found.roof else 0
            )
            assert found.flop_per_s <= ceiling * (1 + 1e-12), found
            if found.bound == "tensor" and len(card.roofs) > 1:
                assert found.flop_per_s == pytest.approx(ceiling)


def test_roofs_of_every_data_type_asked_for() -> None:
    card = founding("h100-sxm5-80gb", ("fp16", "fp8", "fp32"))
    assert [r.name for r in card.roofs] == ["tensor fp8", "tensor fp16", "vector fp16", "vector fp32", "special"]
    assert "NVIDIA H100 SXM5 80 GB: no tensor rate for fp32; that work runs at the rate of vector fp32." in card.notes


def test_what_a_file_does_not_know_is_said() -> None:
    notes = founding("epyc-7763").notes
    assert "AMD EPYC 7763: no special-function rate; that work runs at the rate of vector fp32." in notes
    assert "AMD EPYC 7763: no L2 bandwidth is known, so there is no L2 slope." in notes
    assert [slope.name for slope in founding("a100-sxm4-80gb").slopes] == ["memory", "L2"]


@pytest.mark.parametrize(
    ("names", "tags"),
    [
        (("t4", "a100-sxm4-80gb"), ["T4", "A100"]),
        (("a100-sxm4-80gb", "a100-pcie-80gb"), ["A100 SXM4", "A100 PCIe"]),
        (("rtx-4090", "epyc-7763"), ["GeForce RTX 4090", "EPYC 7763"]),
    ],
)
def test_short_names_tell_cards_apart(names: tuple[str, ...], tags: list[str]) -> None:
    assert chart.tags([founding(name) for name in names]) == tags


def test_numbers_without_zeros_at_their_end() -> None:
    assert chart.brief(65e12, "FLOP/s") == "65 TFLOP/s"
    assert chart.brief(1.0176e12, "FLOP/s") == "1.018 TFLOP/s"
    assert chart.brief(203.125) == "203.1"
    assert [chart.decade(10.0**power) for power in (-2, 0, 2, 3)] == ["0.01", "1", "100", "1 k"]


# --- geometry and placement


def test_spread_keeps_order_and_distance() -> None:
    assert spread([10, 50, 90], 10, 0, 100) == [10, 50, 90]
    assert spread([50, 50], 10, 0, 100) == [45, 55]
    assert spread([0, 1, 2], 10, 0, 100) == [0, 10, 20]
    assert spread([100, 99], 10, 0, 100) == [100, 90]
    assert spread([40, 50, 52], 10, 0, 100) == pytest.approx([112 / 3, 142 / 3, 172 / 3])  # a mean of 142 / 3


def test_lines_and_boxes() -> None:
    box = Box(0, 0, 10, 10)
    assert box.meets((-5, 5, 15, 5))
    assert box.meets((2, 2, 3, 3))
    assert not box.meets((-5, 5, -1, 5))
    assert not box.meets((12, 0, 12, 10))
    assert crosses((0, 0, 10, 10), (0, 10, 10, 0))
    assert not crosses((0, 0, 10, 10), (20, 0, 20, 10))
    assert along((1, 1, 9, 1), (0, 0, 10, 0), apart=2)
    assert not along((1, 1, 9, 9), (0, 0, 10, 0), apart=2)
    assert beyond((0, 0, 10, 0), 4) == (4, 0, 10, 0)


def test_crowded_labels_find_room_and_always_the_same() -> None:
    """Eight labels of 60 by 10 points at marks that are 4 points from each other."""
    anchors = [(150.0 + 4 * i, 100.0) for i in range(8)]
    marks = [Box(x - 3, y - 3, x + 3, y + 3) for x, y in anchors]
    labels = [around(anchor, 60, 10) for anchor in anchors]
    frame = Box(0, 0, 400, 250)
    placed = settled(labels, frame, marks, [(0, 100, 400, 100)])
    assert placed is not None
    boxes = [candidate.boxes[0] for candidate in placed if candidate]
    assert len(boxes) == 8
    assert not any(a.overlaps(b) for a, b in combinations(boxes, 2))
    assert not any(a.overlaps(mark) for a in boxes for mark in marks)
    assert all(frame.holds(box) for box in boxes)
    assert settled(labels, frame, marks, [(0, 100, 400, 100)]) == placed


def test_where_every_label_needs_a_leader_each_has_one() -> None:
    labels = [around((60.0 + 60 * i, 60.0), 30, 10) for i in range(3)]
    near, led = (settled(labels, Box(0, 0, 300, 200), [], [], beside_pt=far) for far in (9.0, 0.0))
    assert near
    assert led
    assert not any(place.leader for place in near if place)
    assert all(place.leader for place in led if place)


def test_labels_without_room_are_refused_or_left_out() -> None:
    labels = [around((25.0, 25.0), 40, 10) for _ in range(9)]
    frame = Box(0, 0, 50, 50)
    assert settled(labels, frame, [], []) is None
    left = settled(labels, frame, [], [], at_worst=True)
    assert left is not None
    assert 0 < sum(candidate is not None for candidate in left) < 9


def test_points_on_one_place_share_a_label() -> None:
    card = founding("t4")
    found = families([card], Box(0, 0, 320, 300), chart.limits([card]))
    assert ["softmax", "mlp.gelu"] in [family.names for family in found]
    assert ["conv1d.convolve", "conv1d (fused)"] in [family.names for family in found]
    assert [family.places[0] for family in found] == sorted(family.places[0] for family in found)


# --- the picture


def figure_of(*cards: Card):  # type: ignore[no-untyped-def]
    from perfmodel.report.plot import figure

    return figure(cards, "a chart")


def corners(text, renderer):  # type: ignore[no-untyped-def]
    """Returns the four corners of a text on the page, including its rotation."""
    angle = text.get_rotation()
    if angle % 90:
        text.set_rotation(0)
    extent = text.get_window_extent(renderer)
    text.set_rotation(angle)
    box = [(extent.x0, extent.y0), (extent.x1, extent.y0), (extent.x1, extent.y1), (extent.x0, extent.y1)]
    if not angle % 90:
        return box
    x, y = (extent.x0 + extent.x1) / 2, (extent.y0 + extent.y1) / 2  # these texts are centred
    turn = radians(angle)
    return [
        (x + (a - x) * cos(turn) - (b - y) * sin(turn), y + (a - x) * sin(turn) + (b - y) * cos(turn)) for a, b in box
    ]


def apart(one, other) -> bool:  # type: ignore[no-untyped-def]
    """Whether an edge of one of two rectangles separates them."""
    for shape in (one, other):
        for i in range(2):
            across = shape[i + 1][0] - shape[i][0], shape[i + 1][1] - shape[i][1]
            some = [x * across[0] + y * across[1] for x, y in one]
            rest = [x * across[0] + y * across[1] for x, y in other]
            if max(some) <= min(rest) or max(rest) <= min(some):
                return True
    return False


def written(figure):  # type: ignore[no-untyped-def]
    """Returns every text that is drawn on the page, with its corners."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.text import Text

    with picture.settings():
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        ticks = [
            (tick, sorted(axis.get_view_interval()))
            for axes in figure.axes
            for axis in (axes.xaxis, axes.yaxis)
            for tick in axis.get_major_ticks()
        ]
        ticks = [(t, t.get_loc()) for t, (low, high) in ticks if not low * 0.999 <= t.get_loc() <= high * 1.001]
        outside = {id(label) for t, _ in ticks for label in (t.label1, t.label2)}
        texts = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()]
        texts = [text for text in texts if id(text) not in outside]
        return [
            (text.get_text().replace("\N{NO-BREAK SPACE}", " "), corners(text, canvas.get_renderer())) for text in texts
        ]


PICTURES = {
    "t4": lambda: [founding("t4")],
    "a100": lambda: [founding("a100-sxm4-80gb")],
    "three": lambda: [founding(name) for name in ("t4", "a100-sxm4-80gb", "h200-sxm-141gb")],
    "gpt2": lambda: [of("t4", "gpt2-124m")],
    "training": lambda: [of("t4", "gpt2-124m", phase="train", fused=False)],
    "decode": lambda: [of("a100-sxm4-80gb", "llama-2-7b-layer", phase="decode")],
    "ten": lambda: [deepseek()],
}


@cache
def page(which: str):  # type: ignore[no-untyped-def]
    """Returns a picture, and every text on it with its corners."""
    found = figure_of(*PICTURES[which]())
    return found, written(found)


@pytest.mark.parametrize("which", PICTURES)
def test_no_text_overlaps_another_or_leaves_the_page(which: str) -> None:
    found, texts = page(which)
    width, height = found.get_size_inches() * found.dpi
    for text, box in texts:
        assert all(-1 <= x <= width + 1 and -1 <= y <= height + 1 for x, y in box), text
    for (text, box), (other, room) in combinations(texts, 2):
        assert apart(box, room), f"{text!r} lies on {other!r}"
    assert width / found.dpi == pytest.approx(7.0)


@pytest.mark.parametrize("run", ["h200-full", "h200-quick"])
def test_the_picture_of_a_run_holds_the_same_laws(run: str, monkeypatch, tmp_path) -> None:  # type: ignore[no-untyped-def]
    from perfmodel import records, validation
    from perfmodel.report import validation_plot

    stored = records.read(str(RESULTS / f"{run}.jsonl"))
    card = validation.card_of(stored.environment)
    drawn = []
    monkeypatch.setattr(picture, "save", lambda figure, path, where: drawn.append(figure))
    found = validation.compare(stored.records, card, stored.environment)
    validation_plot.draw(found, card, stored.environment, str(tmp_path / "run.svg"))
    texts = written(drawn[0])
    width, height = drawn[0].get_size_inches() * drawn[0].dpi
    for text, box in texts:
        assert all(-1 <= x <= width + 1 and -1 <= y <= height + 1 for x, y in box), text
    for (text, box), (other, room) in combinations(texts, 2):
        assert apart(box, room), f"{text!r} lies on {other!r}"
    words = {text for text, _ in texts}
    assert {"Errors by family", "Expected and measured times", "1 PFLOP/s", "expected / measured time"} <= words
    families = {str(one.record["op"]) for one in found.cases}
    assert any(text.startswith("matmul (") for text in words) == ("matmul" in families)


def test_every_kernel_is_named_in_full() -> None:
    cards = PICTURES["training"]()
    words = " ".join(text for text, _ in page("training")[1])
    names = {point.name for card in cards for point in card.points}
    assert len(names) > 40
    assert [name for name in names if name not in words] == []


def test_text_is_large_enough_for_print() -> None:
    from matplotlib.text import Text

    assert min(text.get_fontsize() for text in page("t4")[0].findobj(Text)) >= 8


def test_ridges_roofs_and_slopes_carry_their_values() -> None:
    words = {text for text, _ in page("a100")[1]}
    assert {"153", "38.25", "1.195", "tensor fp16 312 TFLOP/s", "memory 2.039 TB/s", "L2 7.219 TB/s"} <= words
    assert "No FLOPs, so not on the axes: conv1d.pad." in words


def test_measured_points_and_ceilings_join_predicted_ones() -> None:
    card = Card(
        "card", "Card 1", [Slope("memory", 1e12), Slope("copy", 0.9e12, MEASURED)],
        [Roof("tensor", 1e14), Roof("matmul", 0.8e14, MEASURED)],
        [Point("a", 10.0, 1e13), Point("a", 10.0, 0.7e13, MEASURED), Point("b", 1e3, 0.6e14, MEASURED)],
    )  # fmt: skip
    words = [text for text, _ in written(figure_of(card))]
    assert words.count("a") == 1
    assert {"b", "predicted", "measured", "copy 900 GB/s", "matmul 80 TFLOP/s"} <= set(words)


def test_the_legend_says_what_is_drawn() -> None:
    words = {text for text, _ in page("t4")[1]}
    assert {"expected", "bound, with a line to it", "ridge (FLOP/byte)", "30 % of time"} <= words


def test_text_of_an_svg_is_text(tmp_path) -> None:  # type: ignore[no-untyped-def]
    picture.save(figure_of(of("t4", "mlp-4096")), str(tmp_path / "chart.svg"), "here")
    assert re.search(r"<text[^>]*>tensor.fp16.65.TFLOP/s</text>", (tmp_path / "chart.svg").read_text("utf-8"))


def test_shapes_tell_series_apart_without_colours() -> None:
    assert len(set(picture.SHAPES)) == len(picture.SHAPES) > len(picture.COLOURS)


def test_the_same_chart_gives_the_same_bytes(tmp_path) -> None:  # type: ignore[no-untyped-def]
    for name in ("one.svg", "two.svg"):
        picture.save(figure_of(of("t4", "mlp-4096")), str(tmp_path / name), "here")
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()


# --- the command


def run(monkeypatch, capsys, *words: str) -> tuple[int, str, str]:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(sys, "argv", ["perfmodel", "roofline", *words])
    with pytest.raises(SystemExit) as left:
        main()
    told = capsys.readouterr()
    return left.value.code, told.out, told.err  # type: ignore[return-value]


def test_plot_alone_writes_a_picture_here(monkeypatch, capsys, tmp_path) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.chdir(tmp_path)
    code, out, err = run(monkeypatch, capsys, "--gpu", "t4", "plot")
    assert (code, out) == (0, "roofline-t4.png\n")
    assert [path.name for path in tmp_path.iterdir()] == ["roofline-t4.png"]
    assert "t4.yaml, datasheet." in err
    assert "No FLOPs, so not on the axes: conv1d.pad." in err


@pytest.mark.parametrize(("ending", "magic"), [("png", b"\x89PNG\r\n\x1a\n"), ("svg", b"<?xml"), ("pdf", b"%PDF-")])
def test_three_formats(monkeypatch, capsys, tmp_path, ending: str, magic: bytes) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / f"chart.{ending}"
    code, out, _ = run(monkeypatch, capsys, "--gpu", "t4", "--config", "conv1d-8192", "plot", "-o", str(path))
    assert (code, out) == (0, f"{path}\n")
    assert path.read_bytes().startswith(magic)
    if ending == "pdf":
        assert b"/FontFile2" in path.read_bytes()  # TrueType, embedded


def test_names_of_several_gpus_and_a_workload_are_in_the_file_name(monkeypatch, capsys, tmp_path) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.chdir(tmp_path)
    words = ("plot", "--gpu", "t4", "--gpu", "a100", "--gpu", "a100-sxm4-80gb", "--config", "conv1d-8192")
    assert run(monkeypatch, capsys, *words)[:2] == (0, "roofline-t4-a100-sxm4-80gb-conv1d-8192.png\n")


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (
            ("show",),
            2,
            "perfmodel roofline: no GPU is named; --gpu GPU is required and may be repeated. "
            "Write 'perfmodel roofline --gpu t4 show'; see 'perfmodel gpus' for the names.",
        ),
        (
            ("--gpu", "t4"),
            2,
            "perfmodel roofline: neither 'show' nor 'plot' is given; one of them is required. "
            "Add show for a chart in the terminal, or plot for a picture.",
        ),
        (
            ("--gpu", "t44", "show"),
            1,
            "gpu 't44': no file has this name; a path, or a name that 'perfmodel gpus' lists, is accepted. "
            "Did you mean 't4'?",
        ),
        (
            ("--gpu", "t4", "plot", "-o", "x.gif"),
            1,
            "perfmodel roofline plot: '.gif' is not a format of pictures; "
            "a file name that ends in .png, .svg or .pdf is accepted. Change the ending.",
        ),
        (
            ("--gpu", "t4", "plot", "-o", "chart"),
            1,
            "perfmodel roofline plot: 'chart' has no ending that names a format; "
            "a file name that ends in .png, .svg or .pdf is accepted. Change the ending.",
        ),
        (
            ("--gpu", "t4", "plot", "-o", "."),
            1,
            "perfmodel roofline plot: '.' is a folder; "
            "a file name that ends in .png, .svg or .pdf is accepted. Name a file in the folder.",
        ),
        (
            ("--gpu", "t4", "plot", "-o", "no/such/chart.png"),
            1,
            "perfmodel roofline plot: there is no folder 'no/such'; an existing folder is accepted. Create it first.",
        ),
        (
            ("--gpu", "t4", "--set", "D_in=5", "show"),
            1,
            "perfmodel roofline: set D_in: it is not a symbol of any workload on the chart; "
            "their symbols are B, D, F, H, H_kv, K, N, S, W, acc, act, cache, causal, d, mask, weight. "
            "Correct it.",
        ),
    ],
)
def test_messages(monkeypatch, capsys, tmp_path, words: tuple[str, ...], code: int, message: str) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.chdir(tmp_path)
    assert run(monkeypatch, capsys, *words) == (code, "", message + "\n")
    assert list(tmp_path.iterdir()) == []


def test_a_failure_leaves_the_old_picture(monkeypatch, capsys, tmp_path) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "chart.png"
    path.write_bytes(b"Software\0perfmodel, before")

    def refuse(old: str, new: str) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("os.replace", refuse)
    code, _, err = run(monkeypatch, capsys, "--gpu", "t4", "--config", "conv1d-8192", "plot", "-o", str(path))
    assert code == 1
    assert re.fullmatch(
        r"perfmodel roofline plot: '.*chart.png' cannot be written \(Permission denied\); a file in a writable "
        r"folder with enough free space is accepted. Choose another path.\n",
        err,
    )
    assert path.read_bytes() == b"Software\0perfmodel, before"
    assert list(tmp_path.iterdir()) == [path]


# --- the terminal


@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize("words", [("t4",), ("a100", "--config", "llama-2-7b-layer"), ("mi300x", "--phase", "train")])
def test_show_fits_the_terminal(monkeypatch, capsys, width: int, words: tuple[str, ...]) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setenv("COLUMNS", str(width))
    code, out, err = run(monkeypatch, capsys, "show", "--gpu", *words)
    assert (code, err) == (0, "")
    assert max(map(len, out.splitlines())) <= width


def test_show_keys_kernels_to_letters_and_names_roofs(monkeypatch, capsys) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setenv("COLUMNS", "120")
    _, out, _ = run(monkeypatch, capsys, "--gpu", "t4", "show")
    upper, _, lower = out.partition("kernel")
    row = re.search(r"conv1d \(fused\) +(\w) +\S+ +1\.4996 +memory +479\.9 GFLOP/s +\S+ .s +2\.9 % +vector fp16", lower)
    assert row
    assert row[1] in upper.split("└")[0]
    assert "tensor fp16 65 TFLOP/s" in upper
    assert re.search(r"tensor fp16 +65\.00 TFLOP/s +203\.1\n", upper)
    assert re.search(r"memory +320\.0 GB/s\n", upper)


def test_kernels_of_one_cell_share_a_letter() -> None:
    lines = text_roofline.page(founding("t4"), width=120).splitlines()
    letters = {line.split()[0]: line.split()[1] for line in lines if line.startswith(("softmax", "attention.softmax"))}
    assert letters["softmax"] == letters["attention.softmax"]


def test_both_forms_of_one_are_shown_when_asked(monkeypatch, capsys) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setenv("COLUMNS", "100")
    _, out, _ = run(monkeypatch, capsys, "--gpu", "t4", "--unfused", "--set", "H=8", "show")
    assert "NVIDIA T4, fp16: attention, MLP, convolution, unfused\n" in out
    assert "(fused)" not in out
    # 8 heads: 16 x 16384^2 x (2 x 4096 + 8) FLOPs over 4.295 + 68.72 GB of q, k and scores
    assert re.search(r"attention\.scores .* 482\.35 ", out)


def test_show_needs_neither_matplotlib_nor_algebra() -> None:
    code = (
        "import sys; sys.argv = ['perfmodel', 'roofline', '--gpu', 't4', 'show']\n"
        "from perfmodel.__main__ import main\n"
        "try: main()\n"
        "except SystemExit as left: assert left.code == 0\n"
        "assert not {'matplotlib', 'numpy', 'sympy', 'rich'} & set(sys.modules), 'loaded too much'\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
