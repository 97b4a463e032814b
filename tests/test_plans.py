"""Plans: division, collectives, schedules, memory, scaling and the search, against hand-worked figures and loops."""

from __future__ import annotations

import json
from functools import cache
from itertools import product

import pytest
from command import check_refused, perfmodel
from many import for_each

import perfmodel as package
from perfmodel import block, systems
from perfmodel.config_files import workload
from perfmodel.errors import InputError
from perfmodel.hardware import gpu
from perfmodel.plans import asking
from perfmodel.plans.division import divided
from perfmodel.plans.known import AXES
from perfmodel.plans.pipeline import bubble_s, duration_s, in_flight, stages
from perfmodel.plans.plan import Plan, divides, problem
from perfmodel.plans.replicas import synchronised
from perfmodel.plans.scaling import counts
from perfmodel.plans.search import plans, search
from perfmodel.plans.step import Model

CARD = gpu("h100")


@cache
def model(name="tinyllama-1.1b", phase="train", system=None, **sizes):
    return Model(workload(name), phase, CARD, systems.of(CARD, system), sizes or {"B": 8, "N": 1024})


def exchanges(name, layer, plan, **sizes):
    found = workload(name)
    dims = {"causal": 0, **found.dims("train", sizes)}
    own = divided(found.steps_in("train"), dims, plan, train=True)
    return [(e.kind, e.byte * e.times, e.axis, e.backward) for e in own.exchanges if e.step.startswith(layer)]


def test_tensor_parallelism_sums_twice_forward_and_twice_backward():
    # B N D = 1 x 2048 x 8192 elements of 2 bytes
    found = exchanges("llama-3-70b", "layers.", Plan(tp=8, microbatch=1), N=2048)
    after = [one for one in found if one[1] == 2048 * 8192 * 2]
    # the first norm of a layer sums the embedding, which belongs to no layer
    assert sorted(after[1:]) == sorted(
        [("all_reduce", 33554432, "tp", False)] * 2 + [("all_reduce", 33554432, "tp", True)] * 2
    )


def test_sequence_parallelism_gathers_and_scatters():
    found = exchanges("llama-3-70b", "layers.mlp", Plan(tp=8, microbatch=1, sequence_parallel=True), N=2048)
    part, whole = 2048 * 8192 * 2 // 8, 2048 * 8192 * 2
    assert found == [
        ("all_gather", part, "tp", False), ("all_gather", part, "tp", True), ("reduce_scatter", whole, "tp", True),
        ("reduce_scatter", whole, "tp", False), ("all_gather", part, "tp", True),
    ]  # fmt: skip


def test_expert_parallelism_sends_each_token_to_its_experts_and_back():
    found = exchanges("mixtral-8x7b", "layers.moe", Plan(dp=8, ep=8, microbatch=1), B=8, N=2048)
    # 2048 tokens x 2 experts x 4096 elements of 2 bytes, forward and backward, to the experts and back
    assert found == [("all_to_all", 33554432, "ep", backward) for _ in range(2) for backward in (False, True)]


def test_context_parallelism_passes_keys_and_values():
    found = exchanges("llama-3-8b", "layers.attention", Plan(cp=4, microbatch=1), N=8192)
    # keys and values of 8 heads x 2048 tokens x 128 elements of 2 bytes, to 3 others; with gradients backward
    byte = 2 * 8 * 2048 * 128 * 2 * 3
    assert found == [("send_recv", byte, "cp", False), ("send_recv", 2 * byte, "cp", True)]


@pytest.mark.parametrize(
    "fields", [{"tp": 4}, {"tp": 2, "pp": 2}, {"dp": 4}, {"cp": 4}, {"tp": 2, "sequence_parallel": True}]
)
def test_products_and_parameters_of_all_ranks_are_the_whole(fields):
    made = Model(workload("llama-3-8b"), "train", CARD, None, {"B": 4, "N": 1024, "V": 131072}, causal="cp" in fields)
    one, plan = Plan(microbatch=4), Plan(**fields)._replace(microbatch=4 // fields.get("dp", 1))

    def total(at):
        ways = [(s.part.repeat, s.forward.cost, s.backward.cost) for s in made.segments(at)]
        return sum(repeat * (f.contraction_flops + b.contraction_flops) for repeat, f, b in ways)

    assert total(plan) * plan.tp * plan.cp * plan.dp == total(one)
    # the norms are on every rank: 65 norms of 4096 parameters
    own = sum(made.parameters(plan, stage).all for stage in made.stages(plan))
    norms = 65 * 4096
    assert (own - norms) * plan.tp + norms == made.parameters(one, made.stages(one)[0]).all


def test_uneven_shapes_are_said():
    notes = model("gpt2", B=8).estimate(Plan(tp=8)).notes
    assert any("H = 12 is divided unevenly" in note for note in notes)
    assert any("V = 50257 is padded to 51200" in note for note in notes)
    assert any("replicated" in note for note in model("llama-3-8b", B=8).estimate(Plan(tp=16)).notes)


def simulated(p, m, forward, backward, schedule, v=1):
    """A pipeline in loops: each stage runs its passes in the order of the schedule, each after those that it needs."""
    chunks = p * v
    done = {}
    free = [0.0] * p

    def order(stage):
        if schedule == "gpipe":
            return [("f", n, 0) for n in range(m)] + [("b", n, 0) for n in range(m)]
        groups = [(n, c) for start in range(0, m, p) for c in range(v) for n in range(start, min(start + p, m))]
        backs = [(n, v - 1 - c) for n, c in groups]
        warm = min(m * v, (p - stage - 1) if v == 1 else 2 * (p - stage - 1) + (v - 1) * p)
        found = [("f", n, c) for n, c in groups[:warm]]
        for index in range(m * v):
            if warm + index < m * v:
                found.append(("f", *groups[warm + index]))
            found.append(("b", *backs[index]))
        return found

    waiting = [order(stage) for stage in range(p)]
    while any(waiting):
        for stage in range(p):
            while waiting[stage]:
                way, n, c = waiting[stage][0]
                place = c * p + stage
                needs = (
                    ("f", n, place - 1)
                    if way == "f"
                    else ("b", n, place + 1)
                    if place + 1 < chunks
                    else ("f", n, place)
                )
                if needs[2] >= 0 and needs not in done:
                    break
                start = max(free[stage], done.get(needs, 0.0), done.get(("f", n, place), 0.0) if way == "b" else 0.0)
                free[stage] = done[way, n, place] = start + (forward if way == "f" else backward) / v
                waiting[stage].pop(0)
    return max(done.values())


@pytest.mark.parametrize("schedule", ["gpipe", "1f1b", "interleaved"])
@pytest.mark.parametrize(("p", "m", "v"), [(2, 2, 2), (2, 8, 3), (4, 4, 2), (4, 8, 2), (4, 16, 4), (8, 16, 2)])
def test_bubbles_are_those_of_a_simulated_pipeline(schedule, p, m, v):
    chunks = v if schedule == "interleaved" else 1
    plan = Plan(pp=p, schedule=schedule, virtual=chunks)
    expected = m * 3.0 + bubble_s(schedule, p, 1.0, 2.0, chunks)
    assert simulated(p, m, 1.0, 2.0, schedule, chunks) == pytest.approx(expected)
    assert duration_s(plan, [1.0] * p, [2.0] * p, m) == pytest.approx(expected)


def test_microbatches_in_flight():
    assert in_flight(Plan(pp=4), 0, 16) == (4, 1)
    assert in_flight(Plan(pp=4), 3, 16) == (1, 1)
    assert in_flight(Plan(pp=4, schedule="gpipe"), 3, 16) == (16, 1)
    flying, over = in_flight(Plan(pp=8, virtual=3, schedule="interleaved"), 0, 64)
    assert flying / over == pytest.approx(8 * (1 + 7 / 24))  # p (1 + (p - 1) / (p v))


def test_stages_hold_all_layers():
    for pp in range(1, 12):
        found = stages((13, 7), pp)
        assert [sum(stage.counts[kind] for stage in found) for kind in (0, 1)] == [13, 7]
        assert max(sum(stage.counts) for stage in found) == -(-20 // pp)


def test_one_gpu_is_the_analysis():
    found = model("llama-3.2-1b", B=8, N=1024).estimate(Plan(microbatch=8))
    alone = package.analyse("llama-3.2-1b", "h100", phase="train", B=8, N=1024)
    assert found.expected_s == pytest.approx(alone.total.expected.expected_s, rel=0.01)
    assert found.lower_s == pytest.approx(alone.total.lower_s, rel=0.01)
    assert found.plan.gpus == 1
    assert found.communication_s == 0


@pytest.mark.parametrize("fields", [{"tp": 8}, {"dp": 8, "zero": 3}, {"tp": 2, "pp": 2, "dp": 2, "zero": 1}])
def test_more_bandwidth_is_never_slower(fields):
    plan = Plan(**fields, microbatch=1)
    made = model()
    level = made.system.scale_up
    faster = level._replace(
        one_way_byte_per_s=level.one_way_byte_per_s._replace(value=2 * level.one_way_byte_per_s.value)
    )
    other = Model(made.workload, "train", CARD, made.system._replace(scale_up=faster), {"B": 8, "N": 1024})
    slow, fast = made.estimate(plan), other.estimate(plan)
    assert fast.expected_s <= slow.expected_s
    assert fast.lower_s <= slow.lower_s
    assert slow.lower_s <= slow.expected_s
    assert sum(term.seconds for term in slow.terms) == pytest.approx(slow.expected_s)


def test_zero_shards_the_states():
    held = [model().estimate(Plan(dp=8, zero=zero)).memory_byte for zero in range(4)]
    assert held == sorted(held, reverse=True)


@for_each("fields", [
    {"dp": 3}, {"tp": 64}, {"pp": 100}, {"ep": 2}, {"sequence_parallel": True}, {"schedule": "interleaved"},
    {"microbatch": 3}, {"pp": 2, "virtual": 2}, {"pp": 2, "zero": 3},
])  # fmt: skip
def test_illegal_plans_are_refused(fields):
    with pytest.raises(InputError):
        model().estimate(Plan(**fields))


MODES = ("none", "full")  # fused attention stores no scores


def brute_force(made, gpus):
    """Every combination of options in loops; the rules alone decide what is legal."""
    sizes = range(1, gpus + 1)
    microbatches = range(1, made.shape.batch + 1)
    for tp, cp, pp, dp in product(sizes, repeat=4):
        if tp * cp * pp * dp != gpus or not divides(tp, made.shape) or made.shape.batch % dp:
            continue
        chunks = range(1, made.shape.layers // pp + 1) if made.train and pp > 1 else (1,)
        for ep, sequence, microbatch, zero, mode, virtual in product(
            range(1, dp + 1), (False, True), microbatches, range(4), MODES, chunks
        ):
            schedule = "interleaved" if virtual > 1 else "1f1b"
            plan = Plan(tp, pp, dp, ep, cp, sequence, zero, microbatch, schedule, virtual, mode)
            replicated = dp * cp == 1 and zero > 0  # sharding over one replica is no sharding
            split = (
                not made.train and pp == 1 and microbatch < made.shape.batch // dp
            )  # inference runs the whole batch at once
            if not problem(plan, made.shape)[0] and not replicated and not split:
                yield plan


def order(plan):
    """The place of a plan in the space, which decides between equal plans."""
    mode = ("none", "selective", "full").index(plan.recompute)
    return (
        plan.gpus,
        plan.tp,
        plan.cp,
        plan.pp,
        plan.ep,
        plan.sequence_parallel,
        plan.microbatch,
        plan.zero,
        mode,
        plan.virtual,
    )


def test_the_space_of_the_search_is_that_of_loops():
    made = model(B=8, N=512)
    for gpus in (1, 4, 8):
        assert [*plans(made, gpus)] == sorted(brute_force(made, gpus), key=order)


VALUES = {
    "time": lambda one: (one.expected_s, one.memory_byte),
    "throughput": lambda one: (-one.tokens_per_s, one.memory_byte),
    "memory": lambda one: (one.memory_byte, one.expected_s),
    "cost": lambda one: (one.expected_s * one.plan.gpus, one.expected_s),
}
SPACES = [
    ("tinyllama-1.1b", "train", 4, {"B": 4, "N": 2048}),
    ("tinyllama-1.1b", "train", 6, {"B": 6, "N": 1536}),
    ("mixtral-8x7b", "train", 16, {"B": 2, "N": 512}),
    ("gpt-oss-20b", "train", 8, {"B": 2, "N": 1024}),
    ("deepseek-v2-lite", "train", 4, {"B": 8, "N": 512}),
    ("llama-3-8b", "prefill", 8, {"B": 8, "N": 4096}),
    ("mixtral-8x7b", "prefill", 8, {"B": 4, "N": 1024}),
    ("llama-3-70b", "decode", 8, {"B": 16, "S": 2048}),
    ("deepseek-v2-lite", "decode", 8, {"B": 8, "S": 2048}),
]
# Of the first spaces. The others are searched for the least time.
OBJECTIVES = {
    0: ("time", "memory"),
    1: tuple(VALUES),
    2: ("time", "cost"),
    3: ("time", "memory"),
    4: ("time", "memory"),
}


@cache
def every(name, phase, gpus, sizes):
    made = Model(workload(name), phase, CARD, systems.of(CARD, None), dict(sizes))
    return made, [made.estimate(plan) for plan in brute_force(made, gpus)]


@pytest.mark.parametrize(
    ("name", "phase", "gpus", "sizes", "objective"),
    [
        pytest.param(*space, objective, marks=pytest.mark.xdist_group(f"search {n}"))
        for n, space in enumerate(SPACES)
        for objective in OBJECTIVES.get(n, ("time",))
    ],
)
def test_the_search_answers_as_estimating_all_plans_does(name, phase, gpus, sizes, objective):
    counts = [n for n in range(1, gpus + 1) if gpus % n == 0] if objective == "cost" else [gpus]
    found = [every(name, phase, number, tuple(sizes.items()))[1] for number in counts]
    legal = [one for some in found for one in some]
    fitting = sorted((one for one in legal if one.fits), key=lambda one: (*VALUES[objective](one), order(one.plan)))
    fresh = Model(workload(name), phase, CARD, systems.of(CARD, None), sizes)
    answer = search(fresh, gpus, objective=objective, top=5)
    assert (answer.legal, answer.fitting) == (len(legal), len(fitting))
    assert answer.best == tuple(fitting[:5])
    by_time = sorted(fitting, key=lambda one: (one.expected_s, one.memory_byte, order(one.plan)))
    least = [min(one.memory_byte for one in by_time[: n + 1]) for n in range(len(by_time))]
    assert answer.pareto == tuple(one for n, one in enumerate(by_time) if n == 0 or one.memory_byte < least[n - 1])
    best = fitting[0]
    runners_up = {}
    for one in fitting:
        for axis in AXES:
            if getattr(one.plan, axis) != getattr(best.plan, axis):
                runners_up.setdefault(axis, one)
    assert {loss.axis: loss.estimate for loss in answer.losses} == runners_up
    for loss in answer.losses:
        assert best.expected_s + sum(s for _, s in loss.terms) == pytest.approx(loss.estimate.expected_s)


@pytest.mark.parametrize(
    ("name", "phase", "gpus", "sizes"),
    [pytest.param(*space, marks=pytest.mark.xdist_group(f"search {n}")) for n, space in enumerate(SPACES)],
)
def test_the_rough_bound_of_a_plan_is_below_its_time(name, phase, gpus, sizes):
    made, _ = every(name, phase, gpus, tuple(sizes.items()))
    rest = 1e-9  # sums in another order
    for plan in plans(made, gpus):
        assert (
            0
            < made.floor_s(plan)
            <= made.least_s(plan) * (1 + rest)
            <= made.priced(plan, ()).expected_s * (1 + 2 * rest)
        )


def test_options_that_are_given_stay_fixed():
    made = model(B=8, N=512)
    legal = [*plans(made, 8)]
    for fixed in (
        {"cp": 2},
        {"tp": 2, "sequence_parallel": True},
        {"schedule": "interleaved"},
        {"virtual": 11},
        {"microbatch": 2},
    ):
        expected = [p for p in legal if all(getattr(p, name) == value for name, value in fixed.items())]
        assert [*plans(made, 8, fixed)] == expected


def test_a_search_estimates_few_of_the_plans():
    made, timed = Model(workload("mixtral-8x7b"), "train", CARD, systems.of(CARD, None), {"B": 32}), []
    once = made.priced
    made.priced = lambda plan, lines: timed.append(plan) or once(plan, lines)
    assert search(made, 16).fitting > 5 * len(timed)


def test_scale_prints_the_document_of_the_contract():
    ran = perfmodel("scale", "--config", "tinyllama-1.1b", "--gpu", "h100", "--over", "gpus=1:8:x2", "--strong", "--phase", "train",
                    "--set", "B=8", "--set", "N=512", "--format", "json")  # fmt: skip
    assert ran.code == 0, ran.err
    page = json.loads(ran.out)
    assert [point["gpus"] for point in page["points"]] == [1, 2, 4, 8]
    assert page["points"][0]["efficiency"] == page["points"][0]["speedup"] == 1
    keys = {"gpus", "plan", "lower_s", "expected_s", "no_overlap_s", "speedup", "efficiency", "tokens_per_s", "mfu", "memory_byte",
            "fits", "communication_s", "bubble_s"}  # fmt: skip
    assert keys <= page["points"][0].keys()
    assert page["laws"][0]["name"] == "Amdahl"


def test_numbers_of_gpus_without_a_plan_share_a_line():
    scale = ("scale", "--config", "gpt2", "--gpu", "h100", "--strong", "--tp", "4", "--phase", "decode", "--over")
    told = "not a multiple of tp x pp x cp = 4"
    assert f"Skipped: 1 and 2 GPUs: {told}.\n" in perfmodel(*scale, "gpus=1:4:x2").out
    assert f"legal plan: 1 GPU: {told};" in perfmodel(*scale, "gpus=1:1:x2").err
    assert f"legal plan: 1, 2 and 3 GPUs: {told};" in perfmodel(*scale, "gpus=1:3:1").err


def test_weak_scaling_keeps_the_batch_of_a_replica(tmp_path):
    found = package.scale("tinyllama-1.1b", "h100", [1, 4], strong=False, phase="train", B=2, N=512)
    assert [point.estimate.tokens for point in found.points] == [1024, 4096]
    assert found.points[0].efficiency == 1
    path = tmp_path / "s.svg"
    ran = perfmodel("scale", "--config", "tinyllama-1.1b", "--gpu", "h100", "--over", "gpus=1:4:x2", "--weak", "--phase", "train",
                    "--plot", str(path))  # fmt: skip
    assert "mathdefault" not in path.read_text("utf-8")  # labels are numbers, not formulas
    assert ran.code == 0
    assert "Gustafson" in path.read_text()


def test_ranges_of_gpus():
    assert counts("gpus=1:10:x3") == [1, 3, 9]
    assert counts("gpus=8:24:8") == [8, 16, 24]
    for text in ("gpus=4:1:x2", "p=1:4", "gpus=1:4:x1", "gpus=a:b"):
        with pytest.raises(InputError):
            counts(text)


def test_plan_and_flops_print_plans_and_refuse_what_is_missing():
    ran = perfmodel(
        "flops", "--config", "tinyllama-1.1b", "--gpu", "h100", "--tp", "4", "--phase", "decode", "--set", "B=4"
    )
    assert ran.code == 0
    assert "tensor parallelism, exposed" in ran.out
    ran = perfmodel(
        "plan", "--config", "tinyllama-1.1b", "--gpu", "h100", "--gpus", "4", "--phase", "decode", "--price", "2"
    )
    assert ran.code == 0
    assert "per million tokens" in ran.out
    check_refused(perfmodel("plan", "--config", "tinyllama-1.1b", "--gpu", "h100"))
    check_refused(perfmodel("scale", "--config", "tinyllama-1.1b", "--gpu", "h100", "--over", "gpus=1:4:x2"))
    check_refused(perfmodel("flops", "--config", "tinyllama-1.1b", "--gpu", "h100", "--tp", "4", "--symbolic"))


def test_the_bytes_between_stages_and_between_replicas():
    made = model("llama-3-8b", B=8, N=2048)
    # a microbatch of 2048 tokens x 4096 elements of 2 bytes; each of 4 tensor-parallel ranks sends its part
    assert made.stream_byte(Plan(pp=2, microbatch=1)) == 16777216
    assert made.stream_byte(Plan(tp=4, pp=2, microbatch=1)) == 4194304
    # 8,030,261,248 gradients of 2 bytes; the switches of an H100 node add them, so each rank sends them once at 450 GB/s
    found = made.estimate(Plan(dp=8, optimizer="none"))
    assert found.lower_s >= 8030261248 * 2 / 450e9
    sent = synchronised(
        made.prices, Plan(dp=8), made.parameters(Plan(), made.stages(Plan())[0]), 2, 1, made.segments(Plan(microbatch=1)),
        made.stages(Plan())[0], (0.0, 0.0), True,
    )  # fmt: skip
    assert sent.lower_s == pytest.approx(8030261248 * 2 / 450e9, rel=1e-3)
    assert sent.exposed_s == pytest.approx(sent.expected_s)  # nothing to hide behind


@pytest.mark.parametrize("zero", range(4))
def test_states_and_activations_are_those_of_memory(zero):
    """One replica of ``memory`` processes B sequences, the whole of a replica's batch as one microbatch here."""
    alone = package.memory("tinyllama-1.1b", phase="train", gpus=8, zero=zero, B=2, N=1024)
    found = model(B=16, N=1024).estimate(Plan(dp=8, zero=zero, microbatch=2))
    lines = {line.name: line.byte_per_gpu for line in found.lines}
    for line in alone.lines:
        if line.kind in ("weights", "training"):
            assert lines[line.name] == line.byte_per_gpu
    own = sum(byte for name, byte in lines.items() if name.startswith(("activations", "working")))
    kept = sum(line.byte_per_gpu for line in alone.lines if line.kind == "activations")
    assert own == pytest.approx(kept, rel=0.02)


def test_activations_grow_evenly_with_the_batch():
    made = Model(workload("mixtral-8x7b"), "train", CARD, None, {"B": 16, "N": 512})
    for recompute in ("none", "full"):
        plan = Plan(tp=2, dp=2, ep=2, microbatch=8, recompute=recompute)
        assert made._held_of(plan) == made.rank(plan).held(recompute)


def test_plans_beyond_a_system_without_network_are_refused():
    ran = perfmodel(
        "flops",
        "--config",
        "tinyllama-1.1b",
        "--gpu",
        "l40s",
        "--system",
        "l40s-pcie-8",
        "--tp",
        "16",
        "--phase",
        "decode",
    )
    assert "has no network" in check_refused(ran, 1)["found"]


def test_laws_find_the_serial_share_of_exact_points():
    from perfmodel.plans.scaling import Law, Point, _law

    for name in ("Amdahl", "Gustafson"):
        made = [Point(p, None, Law(name, 0.05, 0.0).speedup(p), 0.0) for p in (1, 2, 8, 64)]
        found = _law(name, made)
        assert found.serial == pytest.approx(0.05)
        assert found.error < 1e-9


@pytest.mark.parametrize("name", ["llama-2-7b-layer", "encoder-block"])
def test_tensor_parallelism_divides_every_product_of_a_workload_file(name):
    """The projections of its heads too, each an operation of its own: two all-reduces in a layer."""
    whole, part = (
        asking.model(workload(name), gpu("h100"), None, "prefill", {"B": 1, "N": 1024}).rank(Plan(tp=tp, microbatch=1))
        for tp in (1, 4)
    )
    flops = [
        [sum(n for (_, counted), n in kernel.op.flops_by_kind().items() if counted)
         for kernel in block.kernels(rank.division.steps, rank.dims)]
        for rank in (whole, part)
    ]  # fmt: skip
    assert [one == 4 * other for one, other in zip(*flops, strict=True)] == [True] * len(flops[0])
    assert [(each.kind, each.byte) for each in part.division.exchanges] == [
        ("all_reduce", 1024 * whole.dims["D"] * 2)
    ] * 2
