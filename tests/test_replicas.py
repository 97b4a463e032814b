"""Programs on several replicas: buckets against torch's own, timelines by hand, shards that add up to the whole."""

from __future__ import annotations

from typing import Any

import pytest
from many import for_each

import perfmodel
from perfmodel.aten.calls import Call, Operand
from perfmodel.errors import InputError
from perfmodel.plans.plan import Plan
from perfmodel.programs import timeline
from perfmodel.programs.program import Program, Step
from perfmodel.programs.replicas import Replicas
from perfmodel.programs.sharding import unit_of
from perfmodel.programs.summing import buckets
from perfmodel.programs.wrapping import COMMUNICATION, gradients
from perfmodel.report import programs as report

torch = pytest.importorskip("torch")


def _x(storage: int, numel: int = 4) -> Operand:
    return Operand((numel,), "fp32", (1,), storage, 4 * numel)


def _step(reads: tuple[int, ...], writes: tuple[int, ...], stream: int = 0) -> Step:
    return Step(Call("add", tuple(map(_x, reads)), {}, tuple(map(_x, writes))), stream=stream)


def _timed(steps: list[Step], seconds: list[float]) -> timeline.Times:
    kernels = [timeline.Timed(number, own_s) for number, own_s in enumerate(seconds)]
    return timeline.run(Program("", tuple(steps)), kernels, None)


def test_streams_overlap_until_one_reads_what_the_other_writes() -> None:
    # a (3 s) -> collective of a's result (5 s), while b (2 s) runs; c (1 s) reads the collective's result at 8 s.
    steps = [_step((1,), (2,)), _step((2,), (3,), COMMUNICATION), _step((1,), (4,)), _step((3,), (5,))]
    found = _timed(steps, [3.0, 5.0, 2.0, 1.0])
    assert found.end_s == 9.0
    assert found.exposed_s == (0.0, 3.0, 0.0, 3.0)


def test_kernels_are_slower_beside_a_collective() -> None:
    # A collective runs from 0 to 4 s. The kernel of 3 s beside it does 2 s of its work by then, at half speed.
    steps = [_step((1,), (2,), COMMUNICATION), _step((1,), (3,)), _step((1,), (4,))]
    kernels = [timeline.Timed(number, own_s) for number, own_s in enumerate((4.0, 3.0, 1.0))]
    found = timeline.run(Program("", tuple(steps)), kernels, None, lost=0.5)
    assert found.slowed_s == (0.0, 2.0, 0.0)
    assert found.end_s == 6.0


def test_a_short_kernel_ends_beside_a_collective() -> None:
    steps = [_step((1,), (2,), COMMUNICATION), _step((1,), (3,))]
    kernels = [timeline.Timed(number, own_s) for number, own_s in enumerate((4.0, 1.5))]
    assert timeline.run(Program("", tuple(steps)), kernels, None, lost=0.5).slowed_s == (0.0, 1.5)


def test_collectives_run_one_after_another() -> None:
    steps = [_step((1,), (2,), COMMUNICATION), _step((1,), (3,), COMMUNICATION), _step((1,), (4,))]
    assert _timed(steps, [2.0, 4.0, 1.0]).end_s == 6.0


def test_the_first_bucket_is_small_and_the_others_hold_25_mib() -> None:
    mib = 2**18  # elements of a MiB
    sizes = [mib // 2, mib, 10 * mib, 10 * mib, 10 * mib, mib]
    steps = [Step(Call("mm", (_x(1),), {}, (_x(10 + n, size),)), phase="backward") for n, size in enumerate(sizes)]
    found = [
        sum(int(one.tensor.byte) for one in held) / 2**20 for held in buckets(gradients(Program("", tuple(steps))))
    ]
    assert found == [1.5, 30.0, 1.0]


def _network() -> Any:
    linear = torch.nn.Linear
    return torch.nn.Sequential(linear(300, 700), *(linear(700, 700) for _ in range(9)), linear(700, 5000), linear(5000, 1700))  # fmt: skip


def _training(model: Any, x: Any) -> Any:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def step() -> None:
        model(x).sum().backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def test_buckets_are_those_of_torch() -> None:
    """The buckets that DistributedDataParallel makes after its first step, on one process."""
    import torch.distributed as dist

    dist.init_process_group("gloo", rank=0, world_size=1, store=dist.HashStore())
    try:
        wrapped = torch.nn.parallel.DistributedDataParallel(_network())
        step = _training(wrapped, torch.ones(4, 300))
        for _ in range(3):
            step()
        theirs = [int(size) for size in wrapped._get_ddp_logging_data()["rebuilt_bucket_sizes"].split(",")]
    finally:
        dist.destroy_process_group()
    program = perfmodel.capture(_training(_network().to("meta"), torch.ones(4, 300, device="meta")))
    ours = [sum(int(one.tensor.byte) for one in held) for held in buckets(gradients(program))]
    assert sum(ours) == sum(theirs)
    assert ours == pytest.approx(theirs, rel=2e-3)  # a bias may be complete before or after its weight


class _Layer(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = torch.nn.Linear(512, 2048), torch.nn.Linear(2048, 512)

    def forward(self, x: Any) -> Any:
        return x + self.down(torch.nn.functional.gelu(self.up(x)))


class _Model(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = torch.nn.ModuleList(_Layer() for _ in range(4))
        self.head = torch.nn.Linear(512, 3000)

    def forward(self, x: Any) -> Any:
        for layer in self.layers:
            x = layer(x)
        return self.head(x)


@pytest.fixture(scope="module")
def program() -> Any:
    with torch.device("meta"):
        model, x = _Model(), torch.ones(2048, 512)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)

    def step() -> None:
        model(x).sum().backward()
        optimizer.step()
        optimizer.zero_grad()

    return perfmodel.capture(step)


PARAMETERS = 4 * (512 * 2048 * 2 + 2048 + 512) + 512 * 3000 + 3000


def test_one_replica_does_nothing_else(program: Any) -> None:
    assert program.on("h100", "graph", plan=Plan()).total == program.on("h100", "graph").total


@pytest.mark.parametrize("ranks", [2, 3, 8])
def test_summed_bytes_are_those_of_the_parameters(program: Any, ranks: int) -> None:
    found = Replicas(Plan(dp=ranks)).program(program)
    calls = [step.call for step in found.steps if step.stream == COMMUNICATION]
    assert {call.name for call in calls} == {"all_reduce"}
    assert sum(int(call.operands[0].byte) for call in calls) == 4 * PARAMETERS


@pytest.mark.parametrize(("ranks", "zero", "times"), [(2, 3, 2), (4, 3, 2), (3, 3, 2), (4, 2, 1)])
def test_fsdp_gathers_and_scatters_every_parameter(program: Any, ranks: int, zero: int, times: int) -> None:
    """A layer is gathered forward and backward with ZeRO 3, and the rest once."""
    found = Replicas(Plan(dp=ranks, zero=zero)).program(program)
    byte: dict[str, int] = {}
    for step in found.steps:
        if step.stream == COMMUNICATION and step.call.keywords:
            byte[step.call.name] = byte.get(step.call.name, 0) + int(step.call.operands[0].byte)
    layers, head = 4 * 4 * (512 * 2048 * 2 + 2048 + 512), 4 * (512 * 3000 + 3000)
    assert byte["reduce_scatter"] == layers + head
    assert byte["all_gather"] * ranks == pytest.approx(times * layers + head, abs=64 * ranks)


def test_shards_add_up_to_the_whole(program: Any) -> None:
    """Parameters and optimizer states of all ranks are those of one GPU, within padding."""
    whole = sum(int(one.byte) for one in program.resident.values() if one.role in ("parameter", "state"))
    shard = Replicas(Plan(dp=4, zero=3)).program(program)
    own = sum(int(one.byte) for one in shard.resident.values() if one.role in ("parameter", "state"))
    assert 4 * own == pytest.approx(whole, rel=1e-3)
    updates = [step.call for step in shard.steps if step.phase == "optimizer" and len(step.call.operands) > 50]
    assert updates
    assert sum(x.numel for x in updates[0].arguments[0]) == pytest.approx(PARAMETERS / 4, rel=1e-3)


@pytest.mark.parametrize("zero", [0, 2, 3])
@pytest.mark.parametrize("way", ["eager", "graph", "compiled"])
def test_times_of_replicas(program: Any, zero: int, way: str) -> None:
    found = program.on("h100", way, plan=Plan(dp=4, zero=zero)).total
    alone = program.on("h100", way).total
    assert found.communication_s > 0
    assert found.exposed_s >= 0
    assert found.lower_s <= found.expected_s <= found.expected_high_s
    if way == "graph":  # no host: at most nothing is hidden, and the kernels beside communication run at half speed
        assert found.expected_s <= 1.5 * alone.expected_s + 1.5 * found.communication_s
    if zero == 0:
        assert found.expected_s > alone.expected_s  # the buckets' copies


def test_faster_links_are_never_slower(program: Any) -> None:
    systems = ("dgx-a100", "dgx-h100")
    slow, fast = (program.on(gpu, "graph", plan=Plan(dp=4), system=one).total.communication_s
                  for gpu, one in zip(("a100-sxm4-80gb", "h100"), systems, strict=True))  # fmt: skip
    assert fast < slow


def test_memory_of_shards_is_smaller(program: Any) -> None:
    peaks = [program.on("h100", "graph", plan=Plan(dp=4, zero=zero)).peak_byte for zero in (0, 2, 3)]
    assert peaks[0] > peaks[1] > peaks[2]


def test_the_compiled_program_is_divided_too(program: Any) -> None:
    found = program.on("h100", "compiled", plan=Plan(dp=2))
    assert sum(row.operation == "all_reduce" for row in found.rows) >= 2


@pytest.mark.parametrize("plan", [Plan(tp=2), Plan(dp=2, pp=2), Plan(dp=2, zero=1)])
def test_other_plans_are_refused(program: Any, plan: Plan) -> None:
    with pytest.raises(InputError, match="program"):
        program.on("h100", plan=plan)


@for_each(("path", "unit"), [("model.layers.3.mlp.up", "model.layers.3"), ("model.layers.11", "model.layers.11"), ("lm_head", ""), ("", ""),
     ("h.0.ln_1.weight", "h.0"), ("experts.2.0.up", "experts.2")])  # fmt: skip
def test_unit_of(path: str, unit: str) -> None:
    assert unit_of(path) == unit


def test_results_are_rows_with_streams(program: Any) -> None:
    answer = program.on("h100", "eager", plan=Plan(dp=2))
    assert {row.stream for row in answer.rows} == {0, COMMUNICATION}
    assert sum(row.exposed_s for row in answer.rows if row.stream == 0) == pytest.approx(answer.total.exposed_s)
    assert any("exposed" in note for note in report.notes(answer))
