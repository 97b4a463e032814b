"""Library functions of plans: a workload over many GPUs. They take the arguments of ``api``'s functions, and ``plan``.

``plan`` maps the options of a plan to values: ``{"tp": 8, "pp": 4, "sequence_parallel": True}``. ``system`` is the name of a
file of ``hardware/systems``, by default the first one with the GPU.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from perfmodel import given
from perfmodel.given import Card, Config, Settings

if TYPE_CHECKING:
    from perfmodel.answers.plans import EstimateAnswer, PlanAnswer, ScaleAnswer
    from perfmodel.answers.service import ServiceAnswer


def divide(
    config: Config, gpu: Card, *, system: str | None = None, phase: str | None = None, settings: Settings = None,
    dtype: str | None = None, fused: bool | None = None, causal: bool | None = None, form: str | None = None,
    knowledge: str | None = None, plan: Mapping[str, Any] | None = None, **sizes: Any,
) -> EstimateAnswer:  # fmt: skip
    """Returns time and memory of one step under a plan: ``perfmodel flops --tp 8``."""
    from perfmodel.answers.plans import EstimateAnswer
    from perfmodel.plans import asking

    model = asking.model(given.workload(config, dtype), given.known(gpu), system, phase, given.sizes(settings, sizes),
                         fused=fused, causal=causal, form=form, knowledge=knowledge)  # fmt: skip
    return EstimateAnswer(model, model.estimate(asking.plan_of(plan or {})))


def scale(
    config: Config, gpu: Card, over: str | Iterable[int], *, strong: bool, system: str | None = None,
    phase: str | None = None, settings: Settings = None, dtype: str | None = None, fused: bool | None = None,
    causal: bool | None = None, form: str | None = None, knowledge: str | None = None,
    plan: Mapping[str, Any] | None = None, **sizes: Any,
) -> ScaleAnswer:  # fmt: skip
    """Returns speed-up and efficiency over numbers of GPUs: ``perfmodel scale``.

    ``over`` is a list, or text such as ``"1:1024:x2"``. B is the global batch with ``strong``, otherwise the batch of each
    data-parallel replica.
    """
    from perfmodel.answers.plans import ScaleAnswer
    from perfmodel.plans import asking, scaling

    counts = (
        scaling.counts(over if over.startswith("gpus=") else f"gpus={over}") if isinstance(over, str) else list(over)
    )
    make = asking.models(given.workload(config, dtype), given.known(gpu), system, phase, given.sizes(settings, sizes),
                         fused=fused, causal=causal, form=form, knowledge=knowledge)  # fmt: skip
    found = scaling.scaling(make, counts, asking.plan_of(plan or {}), strong=strong, batch=make(0).shape.batch)
    return ScaleAnswer._make(found)


def plan(
    config: Config, gpu: Card, gpus: int, *, objective: str = "time", top: int = 10, price: float | None = None,
    system: str | None = None, phase: str | None = None, settings: Settings = None, dtype: str | None = None,
    fused: bool | None = None, causal: bool | None = None, form: str | None = None, knowledge: str | None = None,
    plan: Mapping[str, Any] | None = None, **sizes: Any,
) -> PlanAnswer:  # fmt: skip
    """Returns the best plans on a number of GPUs: ``perfmodel plan``. ``plan`` fixes options of the plan.

    ``price`` is that of one GPU for one hour.
    """
    from perfmodel.answers.plans import PlanAnswer
    from perfmodel.plans import asking, search

    model = asking.model(given.workload(config, dtype), given.known(gpu), system, phase, given.sizes(settings, sizes),
                         fused=fused, causal=causal, form=form, knowledge=knowledge)  # fmt: skip
    found = search.search(model, gpus, objective=objective, top=top, fixed=dict(plan or {}), price_per_hour=price)
    return PlanAnswer._make(found)


def serve(
    config: Config, gpu: Card, *, tp: int = 1, rate: float | None = None, ttft: float | None = None, tpot: float | None = None,
    draft: Config | None = None, system: str | None = None, settings: Settings = None, dtype: str | None = None,
    form: str | None = None, knowledge: str | None = None, reserve: str | None = None, **request: Any,
) -> ServiceAnswer:  # fmt: skip
    """Returns the figures of a model that serves requests: ``perfmodel serve``.

    ``request`` are the fields of ``service.request.Request``: ``prompt=1024, output=256, chunk=512``. ``rate`` is in
    requests per second; ``ttft`` and ``tpot`` are targets in seconds.
    """
    from perfmodel.answers.service import ServiceAnswer
    from perfmodel.service.answer import Targets, service
    from perfmodel.service.request import named

    found = service(
        given.workload(config, dtype), given.known(gpu), system=system, tp=tp, request=named(request), rate=rate,
        targets=Targets(ttft, tpot), draft=given.workload(draft, dtype) if draft is not None else None, form=form,
        knowledge=knowledge, settings=given.sizes(settings, {}), reserve=given.reserve(reserve),
    )  # fmt: skip
    return ServiceAnswer._make(found)
