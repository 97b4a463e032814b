"""Predictions of all cases of a file: cases of one form as the columns of a table, the others one by one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, overload

from perfmodel.case_files import Environment, describes, filled, numbered
from perfmodel.errors import PerfmodelError
from perfmodel.hardware import Gpu
from perfmodel.limits import CASES
from perfmodel.prediction import FEW, Model, Prediction, predictions
from perfmodel.step_prediction import Captured

if TYPE_CHECKING:
    from perfmodel.bulk.figures import Values
    from perfmodel.bulk.reading import Alike

SEVERAL = 4096  # lines of a file that is certainly worth loading NumPy


class Table(NamedTuple):
    """Cases of one form with their figures, one column for each, and their notes."""

    alike: Alike
    figures: Values
    notes: tuple[str, ...]

    def taken(self, rows: Any) -> Table:
        """Some of the cases."""
        return Table(self.alike.taken(rows), self.figures[:, rows], self.notes)

    def predictions(self) -> Iterator[Prediction]:
        """The prediction of each case."""
        from perfmodel.bulk import figures

        line = self.alike.case.line
        for numbers, (total, time) in zip(self.alike.shape.tolist(), figures.results(self.figures), strict=True):
            shape = dict(zip(line["shape"], numbers, strict=True))
            yield Prediction({**line, "shape": shape}, total, "", time, self.notes)


class Predictions(Sequence[Prediction]):
    """The predictions of a file in the order of its lines: tables, and those of other lines by their numbers."""

    def __init__(self, tables: Sequence[Table], singles: dict[int, Prediction]) -> None:
        self.tables, self.singles = tables, singles

    def ordered(self, of_tables: Iterable[Iterable[Any]], of_singles: Iterable[Any]) -> list[Any]:
        """What belongs to each case, given by table and by single case, in the order of the lines."""
        found = dict(zip(self.singles, of_singles, strict=True))
        for table, own in zip(self.tables, of_tables, strict=True):
            found.update(zip(table.alike.places.tolist(), own, strict=True))
        return [found[number] for number in sorted(found)]

    def columns(self) -> Iterator[dict[str, list[Any]]]:
        """The figures of the cases of each table, by the names that they have in the document of ``predict``."""
        if self.tables:
            from perfmodel.bulk import figures

            yield from figures.columns([table.figures for table in self.tables])

    @cached_property
    def _all(self) -> list[Prediction]:
        return self.ordered((table.predictions() for table in self.tables), self.singles.values())

    @property
    def errors(self) -> list[str]:
        """The messages of the lines that could not be done; a table has none."""
        return [one.error for one in self.singles.values() if one.total is None]

    def __len__(self) -> int:
        return len(self.singles) + sum(table.alike.places.size for table in self.tables)

    def __iter__(self) -> Iterator[Prediction]:
        return iter(self._all)

    @overload
    def __getitem__(self, place: int) -> Prediction: ...

    @overload
    def __getitem__(self, place: slice) -> list[Prediction]: ...

    def __getitem__(self, place: int | slice) -> Prediction | list[Prediction]:
        return self._all[place]


def predicted(
    lines: Iterable[str],
    file: str,
    gpu: Gpu,
    *,
    knowledge: str | None = None,
    captured: Captured | None = None,
    environment: Environment | None = None,
) -> Predictions:
    """The predictions of a file of cases. ``captured`` and ``environment`` are as in ``predictions`` and ``read``."""
    given = dict(CASES.counted(filled(lines), file))
    tables = [*_tables(given, file, Model(gpu, knowledge))]
    done = {number for table in tables for number in table.alike.places.tolist()}
    asked = [*numbered((line for line in given.items() if line[0] not in done), file, environment)]
    if asked and describes(asked[0][1]) and all(asked[0][0] < number for number in done):
        del asked[0]
    found = predictions((case for _, case in asked), gpu, knowledge=knowledge, captured=captured)
    return Predictions(tables, dict(zip((number for number, _ in asked), found, strict=True)))


def _tables(lines: dict[int, str], file: str, model: Model) -> Iterator[Table]:
    """The tables of cases whose figures are exact; a table has at least a few."""
    texts = [text.rstrip("\r\n") for text in lines.values()]
    if len(texts) <= SEVERAL and max(_alike(texts).values(), default=0) <= FEW:
        return  # without loading NumPy
    from perfmodel.bulk import figures, reading

    for own in reading.alike([*lines], texts, file, FEW + 1):
        try:
            found = figures.of_sizes(own.case, own.sizes, own.places.size, model)
            notes = model.notes_on(own.case)
        except PerfmodelError:
            continue  # every case tells why
        table, exact = Table(own, found, notes), figures.sound(found)
        if exact.any():
            yield table if exact.all() else table.taken(exact)


def _alike(texts: Sequence[str]) -> Counter[bytes]:
    """The number of lines by their text without digits."""
    return Counter("\n".join(texts).encode("utf-8", "surrogatepass").translate(None, b"0123456789").split(b"\n"))
