"""``perfmodel roofline --from`` and ``--point``: measurements on a roofline chart."""

from __future__ import annotations

from typing import Any, NamedTuple

from perfmodel import measured_points as points
from perfmodel.chart import Card
from perfmodel.cli import options, running
from perfmodel.errors import InputError, UsageError
from perfmodel.hardware import Gpu
from perfmodel.hardware import gpu as read_gpu
from perfmodel.records import Stored
from perfmodel.records import read as read_records
from perfmodel.units import ITEM_BYTES

WHERE = "perfmodel roofline"
USUAL = "fp16"  # data type of the roofs of a point without --dtype
FORM = ("phase", "settings", "fused", "causal")  # options that change a workload


class Measurements(NamedTuple):
    """The GPU that was measured, the records of a run, and points that are given as numbers."""

    gpu: Gpu
    run: Stored | None
    texts: tuple[str, ...]

    @property
    def dtypes(self) -> tuple[str, ...]:
        """The data types of the records."""
        records = self.run.records if self.run else ()
        return tuple(dict.fromkeys(str(one["dtype"]) for one in records if one.get("dtype") in ITEM_BYTES)) or (USUAL,)

    def on(self, card: Card) -> Card:
        """Returns the card with a point for each measurement."""
        card = points.stored(card, self.gpu, self.run) if self.run else card
        return points.given(card, self.texts) if self.texts else card


def asked(request: dict[str, Any]) -> Measurements | None:
    """Returns the measurements that the options name; None without any."""
    path, texts, names = request["records"], request["points"], request["gpus"]
    if path is None and not texts:
        return None
    if len(names) > 1:
        raise UsageError(
            WHERE, f"{len(names)} GPUs are named with measurements", "the GPU that was measured is accepted",
            "Name one GPU.",
        )  # fmt: skip
    if not request["configs"]:
        refused = {f"--{'set' if name == 'settings' else name}": request[name] for name in FORM}
        options.refuse_together(WHERE, "a measurement", refused, "this option changes a workload of --config")
    run = read_records(path, bare=True) if path is not None else None
    if names:
        return Measurements(read_gpu(names[0]), run, texts)
    if run is None or not run.environment:
        where = "--point" if run is None else f"{run.file}:1"
        raise InputError(where, "it does not say which GPU was measured", "a name of 'perfmodel gpus' is accepted", "Add --gpu.")  # fmt: skip
    return Measurements(running.card_of(run, None), run, texts)
