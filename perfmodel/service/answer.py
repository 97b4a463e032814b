"""``perfmodel serve``: every figure of a serving stack with its formula."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from perfmodel import systems
from perfmodel.errors import InputError
from perfmodel.footprint.reserve import DEFAULT, Reserve
from perfmodel.hardware import Gpu
from perfmodel.patterns import SEND_RECV
from perfmodel.service import figures, paging
from perfmodel.service.figures import Figure
from perfmodel.service.load import Point, Stack
from perfmodel.service.pricing import StackPrices
from perfmodel.service.request import Request, checked
from perfmodel.service.speculation import Speculation, speculation
from perfmodel.service.step import Chunk, StepCost, Stepper
from perfmodel.systems import System
from perfmodel.timing.collectives import collective_s
from perfmodel.workload import Workload

MOST = 4096  # sequences where memory allows more


class Targets(NamedTuple):
    """Mean times that must hold: to the first token, and per token."""

    first_s: float | None = None
    token_s: float | None = None


class Service(NamedTuple):
    """A model served on GPUs: its figures with formulas, the steps that they rest on, and the state at the rate."""

    workload: Workload
    gpu: Gpu
    system: System
    tp: int
    request: Request
    targets: Targets
    prompt: StepCost
    decode: StepCost
    memory: paging.Paging
    limit_per_s: float
    point: Point | None
    goodput_per_s: float | None
    speculation: Speculation | None
    figures: tuple[Figure, ...]


def service(
    workload: Workload, gpu: Gpu, *, system: str | None = None, tp: int = 1, request: Request | None = None,
    rate: float | None = None, targets: Targets | None = None, draft: Workload | None = None, form: str | None = None,
    knowledge: str | None = None, settings: Mapping[str, Any] | None = None, reserve: Reserve = DEFAULT,
) -> Service:  # fmt: skip
    """The figures of a model served on ``tp`` GPUs, at a rate of requests per second if one is given."""
    request, targets = checked(request or Request(), draft=draft is not None), targets or Targets()
    _check_rates(rate, targets)
    place = systems.of(gpu, system)
    prices = StackPrices(gpu, place, workload.dtypes["activation"], knowledge, request.host_gap)
    stepper = Stepper(workload, prices, tp, form, settings)
    drafter = Stepper(draft, prices, tp) if draft else None
    memory = _memory(stepper, drafter, request, gpu, reserve)
    stack = Stack(
        stepper,
        request,
        request.batch or min(memory.largest_batch, MOST),
        drafter,
        _transfer_s(stepper, request, place),
    )
    limit = stack.limit_per_s()
    point = None if rate is None else _stable(stack, rate, limit)
    goodput = None
    if targets.first_s is not None or targets.token_s is not None:
        goodput = stack.highest(targets.first_s or float("inf"), targets.token_s or float("inf"))
    said = None
    if drafter:
        plain_s = stack.plain_s(1)
        said = speculation(request.acceptance, request.draft_length, *stack.round_s(1), plain_s)
    found = Service(
        workload, gpu, place, tp, request, targets, stepper.cost((stack.steps(request.prompt)[-1][0],)),
        stepper.cost((Chunk(1, request.context),)), memory, limit, point, goodput, said, (),
    )  # fmt: skip
    return found._replace(figures=tuple(figures.of(found, stack)))


def _check_rates(rate: float | None, targets: Targets) -> None:
    for option, value in (("--rate", rate), ("--ttft", targets.first_s), ("--tpot", targets.token_s)):
        if value is not None and not 0 < value < float("inf"):
            raise InputError(
                f"serve: {option}", f"{value!r} is out of range", "a positive number is accepted", f"Change {option}."
            )


def _memory(stepper: Stepper, draft: Stepper | None, request: Request, gpu: Gpu, reserve: Reserve) -> paging.Paging:
    """Memory at full length. Raises InputError where not even one sequence fits."""
    others = paging.weight_byte(draft) if draft else 0
    context = request.prompt + request.output
    chunk = Chunk(min(request.prompt, request.chunk or request.prompt), request.prompt)
    found = paging.paging(stepper, context, chunk, block=request.block, capacity_byte=int(gpu.capacity_byte.value),
                          reserve=reserve, others_byte=others)  # fmt: skip
    if found.largest_batch < 1 or request.batch > found.largest_batch:
        asked = f"{request.batch:,} sequences" if request.batch > 1 else "one sequence"
        need = found.weight_byte + others + found.workspace_byte + max(1, request.batch) * found.sequence_byte
        raise InputError(
            f"serve: {stepper.workload.name} on {stepper.tp} x {gpu.title}",
            f"the weights and {asked} of {context:,} tokens need {need / 1e9:,.1f} GB per GPU",
            f"{(found.room_byte + found.weight_byte + found.workspace_byte + others) / 1e9:,.1f} GB are available, {found.largest_batch:,} sequences fit",
            "Increase --tp, or choose a smaller --batch, --dtype or --prompt.",
        )  # fmt: skip
    return found


def _transfer_s(stepper: Stepper, request: Request, system: System) -> float:
    """The time in which each rank sends its part of a prompt's cache to a rank of the decoding group."""
    if not request.disaggregated:
        return 0.0
    byte = paging.cache_byte(stepper, request.prompt)
    local = 2 if request.disaggregated == "scale-up" else 1
    return collective_s(system, stepper.prices.gpu, SEND_RECV, byte, 2, ranks_per_node=local).expected_s


def _stable(stack: Stack, rate: float, limit: float) -> Point:
    found = stack.at(rate)
    if not found.reason:
        return found
    why = {
        "prompts": f"processing prompts alone takes {100 * rate * stack.prompt_moments(0.0).mean_s:.0f} % of the time",
        "decoding": f"more than {stack.most:,} sequences would decode at once",
    }[found.reason]
    raise InputError(f"serve: --rate {rate:g}", f"the queue grows without limit, because {why}",
                     f"rates below {limit:.4g} requests/s are accepted", "Lower --rate, or add GPUs.")  # fmt: skip
