"""Collectives: counts against simulated ranks, the laws of their times, systems and links, cases and crossovers."""

from __future__ import annotations

import json
from itertools import chain, pairwise

import pytest
import ranks as loops
from command import perfmodel
from many import for_each

from perfmodel import hardware, ops, patterns, systems
from perfmodel.errors import InputError
from perfmodel.hardware import gpu
from perfmodel.solve.algorithms import crossovers, figures
from perfmodel.timing.collectives import collective_s
from perfmodel.timing.links import PROTOCOLS, link

ITEM = 2
SIMULATED = {
    ("all_reduce", "ring"): loops.ring_all_reduce,
    ("all_reduce", "tree"): loops.tree_all_reduce,
    ("all_reduce", "one-shot"): loops.one_shot_all_reduce,
    ("all_reduce", "two-shot"): loops.two_shot_all_reduce,
    ("all_reduce", "in-network"): loops.in_network_all_reduce,
    ("reduce_scatter", "ring"): loops.ring_reduce_scatter,
    ("all_gather", "ring"): loops.ring_all_gather,
    ("all_to_all", "direct"): loops.direct_all_to_all,
    ("broadcast", "ring"): loops.ring_broadcast,
    ("send_recv", "direct"): loops.direct_send_recv,
}
H100, DGX = gpu("h100"), systems.system("dgx-h100")
SYSTEMS = systems.all_systems()


def tensors(p, elements):
    return [[1000 * r + i for i in range(elements)] for r in range(p)]


def expected(kind, given):
    """The results that a collective defines."""
    p, n = len(given), len(given[0])
    total = [sum(column) for column in zip(*given, strict=True)]
    part = n // p
    return {
        "all_reduce": [total] * p,
        "reduce_scatter": [total[n * r // p : n * (r + 1) // p] for r in range(p)],
        "all_gather": [[*chain(*given)]] * p,
        "all_to_all": [[*chain(*(given[r][t * part : (t + 1) * part] for r in range(p)))] for t in range(p)],
        "broadcast": [given[0]] * p,
        "send_recv": [given[r - 1] for r in range(p)],
    }[kind]


@for_each("way", SIMULATED)
@for_each("p", range(1, 18))
def test_messages_are_those_of_simulated_ranks(way, p):
    """Sums, bytes, additions and steps. Parts are unequal where the ranks do not divide the elements."""
    kind, algorithm = way
    for elements in (
        p * 6,
        *((1, 13, p * 6 + 1) if kind in ("all_reduce", "all_gather", "broadcast", "send_recv") else ()),
    ):
        given = tensors(p, elements)
        found, results = SIMULATED[way](given)
        counted = patterns.messages(kind, algorithm, elements * ITEM, p, ITEM)
        assert results == expected(kind, given)
        assert (counted.sent, counted.added, counted.steps) == (sum(found.sent) * ITEM, sum(found.added), found.steps)
        assert sum(found.received) == sum(found.sent)
        assert max(found.sent) <= patterns.busiest(kind, algorithm, p) * elements + p or p == 1, "a part more at most"
        if elements % p == 0 and algorithm != "tree" and kind != "broadcast":
            assert set(found.sent) == {patterns.of_rank(counted.sent, p) // ITEM}, "every rank sends the same"


@for_each("name", ops.FAMILIES["collectives"].split())
def test_an_operation_states_what_its_ranks_do(name):
    operation = ops.find(name)
    fact = operation(byte=4800, gpus=6).runs
    found, _ = SIMULATED[fact.kind, fact.algorithm](tensors(6, 2400))
    assert fact.sent_byte == -(-sum(found.sent) * ITEM // 6)
    assert operation(byte=4800, gpus=6).flops() == -(-sum(found.added) // 6)
    assert operation(byte=4800, gpus=1).runs.sent_byte == 0


def test_no_algorithm_sends_less_than_the_bound():
    for kind, algorithms in patterns.ALGORITHMS.items():
        for algorithm in algorithms:
            for p in range(1, 18):
                least = patterns.least_byte(kind, 720720, p, reduces=algorithm == "in-network")
                assert patterns.messages(kind, algorithm, 720720, p, 2).sent / p >= least * (1 - 1 / p) - 1e-6


# --- systems and links


@for_each("system", SYSTEMS)
def test_a_system_fits_its_cards(system):
    """The links of a card's data sheet are those of its system, both directions together."""
    for name in system.gpus:
        card = hardware.gpu(name)
        kind = "nvlink" if "nvlink" in card.links else "pcie"
        assert system.scale_up.both_ways_byte_per_s.value == card.links[kind].value
        assert system.scale_up.link == systems.link_name(card, kind)
    for level in filter(None, (system.scale_up, system.network)):
        assert link(level.link).name == level.link
    used = {
        figure.source
        for level in (system.scale_up, system.network)
        if level
        for figure in level
        if hasattr(figure, "source")
    }
    assert {*used, system.gpus_per_node.source} <= set(system.sources)
    assert all("read 20" in source for source in system.sources.values())


def test_there_are_systems():
    assert {"dgx-a100", "dgx-h100", "hgx-h200", "dgx-b200", "gb200-nvl72", "l40s-pcie-8", "t4-cloud-4"} <= set(
        systems.names()
    )
    assert systems.system("gb200-nvl72").scale_up.gpus == 72
    assert systems.default(H100).name == "dgx-h100"
    assert systems.default(gpu("l4")).scale_up.link == "pcie4"
    assert systems.default(gpu("a100-pcie")).scale_up.link == "pcie4", "an NVLink bridge joins two cards only"


def test_every_link_has_its_figures():
    for name in (
        "nvlink2",
        "nvlink3",
        "nvlink4",
        "nvlink5",
        "pcie3",
        "pcie4",
        "pcie5",
        "infiniband",
        "ethernet",
        "memory",
    ):
        found = link(name)
        assert all(one.name in PROTOCOLS and 0 < one.share <= 1 for one in (*found.ring, *found.pair, found.message))
        assert found.sources


PAGE = """\
title: Test
gpus: [h100-sxm5-80gb]
sources:
  sheet: {title: A data sheet, read: 2026-11}
gpus_per_node: {value: 8, from: sheet}
scale_up:
  link: nvlink4
  links: {value: 18, from: sheet}
  per_link: {value: 25 GB/s, from: sheet}
  one_way: {value: 450 GB/s, from: sheet}
  both_ways: {value: 900 GB/s, from: sheet}
"""


@for_each(
    ("old", "new", "line", "told"),
    [
        ("450 GB/s", "400 GB/s", 11, "it is not twice one_way = 800 GB/s"),
        ("25 GB/s", "50 GB/s", 10, "it is not 18 links x per_link = 900 GB/s"),
        ("450 GB/s", "450 GB", 10, "'450 GB' is not in B/s"),
        ("from: sheet}\nscale_up", "from: paper}\nscale_up", 5, "'paper' is not known"),
        ("  link: nvlink4", "  link: nvlink4\n  lanes: 4", 8, "'lanes' is not a key here"),
        ("title: Test", "title: Test\nswitch: yes", 2, "'switch' is not a key here"),
    ],
)
def test_a_wrong_file_is_refused_with_its_line(tmp_path, old, new, line, told):
    path = tmp_path / "own.yaml"
    path.write_text(PAGE)
    assert systems.system(str(path)).scale_up.rate_byte_per_s == 450e9
    path.write_text(PAGE.replace(old, new))
    with pytest.raises(InputError) as refused:
        systems.system(str(path))
    assert str(refused.value).startswith(f"{path}:{line}:")
    assert told in str(refused.value)


@for_each(
    ("asked", "told"),
    [
        (lambda: systems.system("dgx-h10"), "Did you mean 'dgx-h100'?"),
        (lambda: systems.of(H100, "dgx-a100"), "h100-sxm5-80gb is not a GPU of this system"),
        (lambda: collective_s(systems.system("l40s-pcie-8"), gpu("l40s"), "all_reduce", 8, 16), "it has no network"),
        (lambda: collective_s(DGX, H100, "all_reduce", 8, 16, ranks_per_node=9), "1 to 8 are accepted"),
        (lambda: collective_s(DGX, H100, "allreduce", 8, 2), "Did you mean 'all_reduce'?"),
        (lambda: collective_s(DGX, H100, "all_gather", 8, 2, algorithm="tree"), "ring, direct is accepted"),
    ],
)
def test_what_a_system_cannot_do_is_refused(asked, told):
    with pytest.raises(InputError, match=told.replace("?", r"\?")):
        asked()


# --- laws of the time


SIZES = (8, 1 << 10, 1 << 16, 1 << 20, 1 << 24, 1 << 30)


def faster(system, factor):
    level = system.scale_up
    more = level.one_way_byte_per_s._replace(value=factor * level.one_way_byte_per_s.value)
    ports = system.network.one_way_byte_per_s
    network = system.network._replace(one_way_byte_per_s=ports._replace(value=factor * ports.value))
    return system._replace(scale_up=level._replace(one_way_byte_per_s=more), network=network)


@for_each("kind", patterns.KINDS)
@for_each("ranks", [(2, None), (8, None), (16, None), (16, 1), (64, 8)])
def test_laws_of_the_time(kind, ranks):
    """Never below the bound; more bytes never quicker; more bandwidth never slower; the terms add up."""
    p, local = ranks
    times = [collective_s(DGX, H100, kind, byte, p, ranks_per_node=local) for byte in SIZES]
    quick = [collective_s(faster(DGX, 2), H100, kind, byte, p, ranks_per_node=local) for byte in SIZES]
    for one, other in zip(times, quick, strict=True):
        assert 0 < one.lower_s <= one.low_s <= one.expected_s <= one.high_s
        assert sum(term.seconds for term in one.terms) == pytest.approx(one.expected_s)
        assert other.expected_s <= one.expected_s
        assert other.lower_s == pytest.approx(one.lower_s / 2)
    assert all(a.expected_s <= b.expected_s and a.lower_s < b.lower_s for a, b in pairwise(times))


@for_each("kind", patterns.KINDS)
def test_one_rank_moves_nothing(kind):
    found = collective_s(DGX, H100, kind, 1 << 20, 1)
    assert (found.lower_s, found.expected_s, found.terms) == (0, 0, ())


def test_the_bound_is_that_of_the_data_sheet():
    """H100: 2 (8 - 1) / 8 of 450 MB at 450 GB/s is 1.75 ms; with the switches' help 1 ms. Across 2 nodes of 8, the sum
    of a node leaves over 8 ports of 50 GB/s: 450 MB / 400 GB/s = 1.125 ms.
    """
    byte = 450_000_000
    assert collective_s(DGX, H100, "all_reduce", byte, 8).lower_s == pytest.approx(1e-3)
    assert collective_s(systems.system("dgx-a100"), gpu("a100"), "all_reduce", byte, 8).lower_s == pytest.approx(
        2.625e-3
    )
    assert collective_s(DGX, H100, "all_gather", byte // 8, 8).lower_s == pytest.approx(0.875e-3)
    assert collective_s(DGX, H100, "all_reduce", byte, 16).lower_s == pytest.approx(1.125e-3)
    assert collective_s(DGX, H100, "all_reduce", byte, 2, ranks_per_node=1).lower_s == pytest.approx(9e-3)


@for_each(
    ("system", "kind", "total", "ranks", "measured_us"),
    [
        ("dgx-h100", "all_reduce", 1 << 29, 8, 2112.0),
        ("dgx-h100", "all_gather", 1 << 29, 8, 1398.1),
        ("dgx-h100", "all_to_all", 1 << 27, 4, 336.0),
        ("dgx-h100", "all_reduce", 1 << 14, 8, 16.7),
        ("dgx-a100", "reduce_scatter", 1 << 26, 2, 230.3),
        ("dgx-a100", "all_reduce", 1 << 16, 4, 17.8),
        ("dgx-b200", "all_gather", 1 << 28, 8, 393.1),
        ("l40s-pcie-8", "all_reduce", 1 << 26, 4, 19699.0),
    ],
)
def test_public_measurements_lie_near_the_expected_time(system, kind, total, ranks, measured_us):
    """Single values of the tables of ai-dynamo/aiconfigurator 095f58a; benchmarks/collectives.py judges all of them."""
    found = systems.system(system)
    byte = total // ranks if kind == "all_gather" else total
    time = collective_s(found, gpu(found.gpus[0]), kind, byte, ranks)
    assert time.expected_s * 1e6 == pytest.approx(measured_us, rel=0.15)
    assert time.lower_s * 1e6 < measured_us


def test_the_algorithm_follows_the_size():
    names = [
        (t.algorithm, t.protocol)
        for t in (collective_s(DGX, H100, "all_reduce", byte, 8) for byte in (1024, 1 << 20, 1 << 30))
    ]
    assert names == [("ring", "LL"), ("ring", "LL128"), ("in-network", "Simple")]
    assert collective_s(DGX, H100, "all_reduce", 1024, 512, ranks_per_node=1).algorithm == "tree"
    assert collective_s(DGX, H100, "all_reduce", 1 << 30, 8, algorithm="ring").algorithm == "ring"


# --- crossovers


def test_crossovers_are_where_the_textbook_times_are_equal():
    latency_s, rate = figures(H100)
    for kind in patterns.KINDS:
        for p in (3, 4, 8, 17):
            for one in crossovers(kind, p, H100):
                times = [
                    patterns.messages(kind, name, 1, p).steps * latency_s
                    + patterns.busiest(kind, name, p) * one.at / rate
                    for name in (one.below, one.above)
                ]
                assert times[0] == pytest.approx(times[1]), (kind, p, one)
    by_hand = {(one.below, one.above): str(one.closed_form) for one in crossovers("all_reduce", 4)}
    assert by_hand["tree", "ring"] == "4*latency*rate"  # (6 - 4) steps against 2 - 3/2 of the bytes
    assert crossovers("all_reduce", 2) == ()


def test_explain_shows_the_algorithms_and_solve_their_crossovers():
    page = perfmodel("explain", "all_reduce", "--gpu", "h100", "--set", "gpus=8").out
    assert "Messages of one rank" in page
    assert "one-shot below, two-shot above: byte = 4 latency rate / 21" in page
    assert "two-shot" in perfmodel("explain", "all_reduce", "--latex").out
    found = json.loads(
        perfmodel("solve", "--op", "all_reduce", "--gpu", "h100", "--for", "byte", "--format", "json").out
    )
    assert {"below": "tree", "above": "ring"}.items() <= found["crossovers"][0].items()


def test_a_sweep_over_ranks_has_the_bound_of_the_links():
    from perfmodel.sweep import sweep
    from perfmodel.workload import single

    for name, most in (("all_reduce", 2**20 / 450e9), ("all_gather", 2**20 * 7 / 450e9)):
        (chunk,) = sweep(single(ops.find(name)), [H100], {"gpus": [1, 2, 8]}, settings={"byte": 1 << 20})
        assert chunk.lower_s[2] == pytest.approx(most)
        assert chunk.bound_names == ["memory", "link", "link"]


# --- cases


def predicted(*lines):
    text = "\n".join(json.dumps(line) for line in lines)
    ran = perfmodel("predict", "--cases", "-", "--gpu", "h100", "--format", "json", stdin=text)
    return json.loads(ran.out)["cases"]


CASE = {"op": "all_reduce", "shape": {"byte": 1048576, "gpus": 2}, "dtype": "bf16", "impl": "nccl", "protocol": "warm"}


def test_a_case_is_predicted_on_its_system():
    plain, named, eager, far, forced = predicted(
        CASE, {**CASE, "system": "dgx-h100"}, {**CASE, "protocol": "eager"}, {**CASE, "ranks_per_node": 1},
        {**CASE, "op": "all_reduce_one_shot"},
    )  # fmt: skip
    found = collective_s(DGX, H100, "all_reduce", 1 << 20, 2)
    assert plain["expected_s"] == named["expected_s"] == pytest.approx(found.expected_s)
    assert plain["lower_s"] == pytest.approx(2**20 / 450e9)
    assert plain["bound"] == "link"
    assert plain["flops"] == 2**20 // 4
    assert eager["expected_s"] == pytest.approx(found.expected_s + found.host_s)
    assert far["lower_s"] == pytest.approx(2**20 / 50e9)
    assert forced["flops"] == 2**19


@for_each(
    ("line", "told"),
    [
        ({**CASE, "system": "dgx-a100"}, "is not a GPU of this system"),
        ({**CASE, "system": 1}, "system: 1 is not a name"),
        ({**CASE, "ranks_per_node": 0}, "ranks_per_node: 0 is out of range"),
        ({**CASE, "shape": {"byte": 3, "gpus": 2}}, "byte % act == 0 does not hold"),
        ({**CASE, "shape": {"byte": 8, "gpus": 2, "ranks": 2}}, "'ranks' is not a size of all_reduce"),
        ({"op": "softmax", "shape": {"rows": 8, "cols": 8}, "system": "dgx-h100"}, "'system' is not a key of a case"),
    ],
)
def test_a_wrong_case_is_refused(line, told):
    (found,) = predicted(line)
    assert told in found["error"]


@pytest.mark.parametrize("dtype", ["int4", "int8", "fp16"])
def test_the_algorithms_can_be_swept_over_bytes(dtype, tmp_path):
    """Elements of half a byte are counted for all points at once."""
    for name in ("all_reduce", "all_reduce_in_network", "reduce_scatter"):
        given, file = ("--op", name, "--gpu", "h100", "--dtype", dtype), tmp_path / f"{name}.jsonl"
        assert perfmodel("sweep", *given, "--over", "byte=64:128:2", "-o", str(file)).code == 0
        alone = perfmodel("flops", *given, "--set", "byte=128", "--format", "json")
        assert json.loads(file.read_text().splitlines()[-1])["flops"] == json.loads(alone.out)["steps"][0]["flops"]


def test_solve_speaks_of_the_gpu_alone_where_the_link_is_the_bound():
    ran = perfmodel("solve", "--op", "all_reduce", "--gpu", "h100", "--for", "byte")
    told = " ".join(ran.out.split())
    assert "link-bound at byte = 1048576" in told
    assert "the GPU alone, without the link: memory-bound at every byte" in told


def test_a_link_may_be_like_another(tmp_path, monkeypatch):
    folder = tmp_path / "hardware" / "links"
    folder.mkdir(parents=True)
    monkeypatch.setenv("PERFMODEL_PATH", str(tmp_path))
    sources = "sources:\n  own: a test\n"
    (folder / "slower.yaml").write_text(f"like: nvlink4\n{sources}common: {{from: own, launch: 9}}\n")
    (folder / "further.yaml").write_text(f"like: slower\n{sources}")
    usual, found = link("nvlink4"), link("slower")
    assert found.launch_s == pytest.approx(9e-6)
    assert found._replace(name=usual.name, file=usual.file, sources=usual.sources, launch_s=usual.launch_s) == usual
    with pytest.raises(InputError, match=r"slower is like another link; .*Write 'like: nvlink4'"):
        link("further")
