"""Groups the kernels of an answer into blocks of the model: embedding, attention, MLP, head, loss, optimizer.

The groups follow from the names of the steps. A name is a path, such as ``layers.attention.q``. The leading parts that
contain repeated steps (``layers``, ``encoder``) are sections. The first part below the sections names the block.
"""

from collections.abc import Iterable, Sequence
from itertools import accumulate, takewhile
from typing import NamedTuple

from perfmodel.analysis import Analysis, Row, Total, summed
from perfmodel.timing.expectation import Expected

HEAD = "head"  # the steps that follow the last repeated layer, such as the final norm and the logits


class Block(NamedTuple):
    """One part of a model in one direction, forward or backward.

    ``total`` is summed over all kernels and repeats. ``share`` is the block's share of the total time.
    """

    name: str
    rows: tuple[Row, ...]
    total: Total
    share: float | None

    @property
    def launches(self) -> int:
        """Number of kernels that run, repeats included."""
        return sum(row.repeat for row in self.rows)


def blocks(answer: Analysis) -> tuple[Block, ...]:
    """Returns the blocks in running order; forward and backward are separate blocks."""
    groups = {row.step.group.rstrip(".") for row in answer.rows if row.step.group}
    paths = _paths(answer.rows, groups, {step.name for step in answer.workload.loss})
    names = _shortened(dict.fromkeys(paths.values()), groups)
    forward = {paths[row.step.name] for row in answer.rows if row.forward}
    found: dict[str, list[Row]] = {}
    for row in answer.rows:
        path = paths[row.step.name]
        found.setdefault(names[path] + (".backward" if not row.forward and path in forward else ""), []).append(row)
    whole_s = sum(map(time_s, answer.rows))
    return tuple(_block(name, tuple(rows), whole_s) for name, rows in found.items())


def time_s(row: Row) -> float:
    """Returns the time of a kernel over all its repeats: the expected time, else the lower bound; 0 without a card."""
    if row.bounds is None:
        return 0.0
    return float((row.expected.expected_s if row.expected else row.bounds.lower_s) * row.repeat)


def shares(rows: Sequence[Row]) -> list[float]:
    """Returns each kernel's share of the total time, repeats included; an empty list without a card."""
    times = [*map(time_s, rows)]
    whole_s = sum(times)
    return [seconds / whole_s for seconds in times] if whole_s else []


def percentages(parts: Sequence[float]) -> list[int]:
    """Rounds shares to whole percentages that add up to 100; the largest remainders round up."""
    whole = [int(100 * part) for part in parts]
    last = sorted(range(len(parts)), key=lambda i: whole[i] - 100 * parts[i])
    for i in last[: 100 - sum(whole)]:
        whole[i] += 1
    return whole


def _block(name: str, rows: tuple[Row, ...], whole_s: float) -> Block:
    total = summed(rows, sum(row.compulsory_byte * row.repeat for row in rows))
    times = [(row.expected, row.repeat) for row in rows if row.expected]
    if times:
        whole = Expected(
            sum(time.expected_s * repeat for time, repeat in times),
            sum(time.low_s * repeat for time, repeat in times),
            sum(time.high_s * repeat for time, repeat in times),
        )
        total = total._replace(expected=whole)
    own_s = sum(map(time_s, rows))
    return Block(name, rows, total, own_s / whole_s if whole_s else None)


def _paths(rows: Iterable[Row], groups: Iterable[str], loss: set[str]) -> dict[str, str]:
    """Returns the path of each step's block, by the name of the step."""
    steps = {row.step.name: row.step for row in rows if row.forward}
    sections = {section for group in groups for section in _prefixes(group)}
    last = max((at for at, step in enumerate(steps.values()) if step.group), default=len(steps))
    head = {name for name in list(steps)[last + 1 :] if name not in loss}
    names = {**steps, **{row.step.name: row.step for row in rows}}
    return {name: HEAD if name in head else _below(name, sections) for name in names}


def _below(name: str, sections: set[str]) -> str:
    """Returns the shortest prefix of a path that is not a section: ``layers.attention`` of ``layers.attention.q``."""
    return next((part for part in _prefixes(name) if part not in sections), name)


def _prefixes(path: str) -> Iterable[str]:
    return accumulate(path.split("."), lambda before, part: f"{before}.{part}")


def _shortened(paths: Iterable[str], groups: Iterable[str]) -> dict[str, str]:
    """Returns each path without the sections common to all repeated steps, unless two paths would become equal."""
    paths, shared = tuple(paths), _common(groups)
    short = {path: path.removeprefix(f"{shared}.") for path in paths}
    return short if len(set(short.values())) == len(paths) else dict(zip(paths, paths, strict=True))


def _common(groups: Iterable[str]) -> str:
    """Returns the longest path that all paths start with."""
    parts = zip(*(group.split(".") for group in groups), strict=False)
    return ".".join(part[0] for part in takewhile(lambda part: len(set(part)) == 1, parts))
