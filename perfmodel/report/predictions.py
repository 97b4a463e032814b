"""Predictions as a JSON document or a table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from perfmodel import routing
from perfmodel.bulk.files import Predictions, Table
from perfmodel.cases import DEFAULT_PROTOCOL as PROTOCOL
from perfmodel.hardware import Gpu
from perfmodel.paths import label
from perfmodel.prediction import Prediction
from perfmodel.records import MEASURED, WRITTEN
from perfmodel.report.answer import SCHEMA, expected_document, gpu_document, protocol_line
from perfmodel.report.sheet import Column, Sheet
from perfmodel.report.sheet import render as render_sheet
from perfmodel.roofline import FROM_L2
from perfmodel.step_cases import STEP, case_name, plan_words
from perfmodel.strictjson import dumped
from perfmodel.units import scaled, significant
from perfmodel.validation import Compared

# Keys of a line that change its document, and are not copied as they are.
OWN = WRITTEN | MEASURED.keys()
BOTTLENECKS = "The bottleneck is determined with an empty L2, whatever the protocol."


def render(found: Sequence[Prediction], gpu: Gpu, form: str, knowledge: str = "", columns: Sequence[str] = ()) -> str:
    """Returns the predictions in the given format, with a final line break."""
    if form == "json":
        # One case per line: indented JSON uses Python's slow encoder, which would take longer than all predictions.
        head, _, tail = dumped(document((), gpu, knowledge)).rpartition("[]")
        lines = ",\n".join(case_texts(found))
        return f"{head}[\n{lines}\n]{tail}\n"
    return render_sheet(sheet(found, gpu, knowledge).picked(columns), form)


def document(found: Sequence[Prediction], gpu: Gpu, knowledge: str = "") -> dict[str, Any]:
    """Returns the JSON document of ``predict``."""
    cases = [case_document(prediction) for prediction in found]
    return {"schema": SCHEMA, "gpu": gpu_document(gpu, knowledge), "cases": cases}


def case_document(prediction: Prediction) -> dict[str, Any]:
    """Returns a case with its figures, or with the error."""
    total = prediction.total
    if total is None:
        return {**prediction.line, "error": prediction.error}
    return {
        **{key: value for key, value in prediction.line.items() if key not in ("error", "failed")},
        "flops": total.flops,
        "contraction_flops": total.contraction_flops,
        "traffic_byte": total.traffic_byte,
        "compulsory_byte": total.compulsory_byte,
        "intensity_flop_per_byte": total.intensity_flop_per_byte,
        "bound": total.bound,
        "lower_s": total.lower_s,
        "no_overlap_s": total.no_overlap_s,
        "roof_notes": list(prediction.roof_notes),
        "protocol": protocol(prediction.line),
        **({"expected_peak_byte": prediction.peak_byte} if prediction.peak_byte is not None else {}),
        **expected_document(prediction.expected, total.lower_s or 0.0),
        **measured_document(compared(prediction)),
    }


def case_texts(found: Iterable[Prediction]) -> Iterable[str]:
    """Returns the JSON text of every case."""
    if isinstance(found, Predictions):
        tables = map(_table_texts, found.tables, found.columns())
        return found.ordered(tables, map(_text, found.singles.values()))
    return map(_text, found)


def _text(prediction: Prediction) -> str:
    return dumped(case_document(prediction))


def _table_texts(table: Table, figures: Mapping[str, Sequence[Any]]) -> Iterable[str]:
    """Returns the JSON texts of cases that differ in their numbers and their bottleneck alone, so that the text of the
    other fields is made once.
    """
    line = table.alike.case.line
    if not OWN.isdisjoint(line):
        return map(_text, table.predictions())
    places = ", ".join(f"{dumped(name)}: %d" for name in line["shape"])
    fields = {name: f"{{{places}}}" if name == "shape" else _verbatim(value) for name, value in line.items()}
    names = []
    for name, value in case_document(next(table.taken(slice(1)).predictions())).items():
        if name in figures:
            names.append(name)
            fields[name] = '"%s"' if isinstance(value, str) else "%s"
        elif name not in line:
            fields[name] = _verbatim(value)
    frame = f"{{{', '.join(f'{dumped(name)}: {text}' for name, text in fields.items())}}}"
    return map(frame.__mod__, zip(*table.alike.shape.T.tolist(), *(figures[name] for name in names), strict=True))


def _verbatim(value: Any) -> str:
    """Returns the JSON text of a value as a part of a text with places."""
    return dumped(value).replace("%", "%%")


def compared(prediction: Prediction) -> Compared:
    """Returns the prediction with the measured time of its line, if any."""
    return Compared(prediction.line, prediction)


def measured_document(one: Compared) -> dict[str, float | None]:
    """Returns the measured time, bound and expected time as shares of it, and its excess over the bound; empty without
    a measured time.

    ``of_roofline`` is the name of ``of_bound`` in ``validate``.
    """
    if one.measured_s is None:
        return {}
    return {
        "measured_s": one.measured_s,
        "of_bound": one.of_roofline,
        "of_roofline": one.of_roofline,
        "of_expected": one.of_expected,
        "error": one.error,
        "headroom_s": one.headroom_s,
    }


def protocol(line: Mapping[str, Any]) -> str:
    """Returns the protocol of a case's expected time."""
    return str(line.get("protocol", PROTOCOL))


def how(line: Mapping[str, Any]) -> str:
    """Returns the choices of a case besides its sizes and data type; the direction forward is omitted."""
    words = [plan_words(line)] if line.get("op") == STEP else []
    words += ["causal"] if line.get("causal") in (True, "true") else []
    words += [f"window {line['window']}"] if line.get("window") is not None else []
    words += [f"{role} {dtype}" for role, dtype in line.get("dtypes", {}).items()]
    words += [str(line[key]) for key in ("impl", "direction", "activation", "weights", "protocol") if key in line]
    words += [f"torch {line['torch']}"] if line.get("torch") is not None else []
    return ", ".join(word for word in words if word != "forward")


def sheet(found: Sequence[Prediction], gpu: Gpu, knowledge: str = "") -> Sheet:
    """Returns one line per case, without the cases that have an error."""
    done = [prediction for prediction in found if prediction.total]
    columns = [
        Column("op", "op", lambda p: case_name(p.line), right=False),
        Column(
            "shape",
            "shape",
            lambda p: " ".join(f"{k}={routing.text(v)}" for k, v in p.line["shape"].items()),
            right=False,
        ),
        *([Column("how", "options", lambda p: how(p.line), right=False)] if any(how(p.line) for p in done) else []),
        Column("dtype", "type", lambda p: p.line.get("dtype", "fp16"), right=False, expendable=1),
        Column("flops", "FLOP", lambda p: p.total.flops, lambda value: scaled(value, "", 4)),
        Column(
            "traffic_byte", "traffic", lambda p: p.total.traffic_byte, lambda value: scaled(value, "B", 4), expendable=2
        ),
        Column(
            "intensity",
            "FLOP/B",
            lambda p: p.total.intensity_flop_per_byte,
            lambda value: significant(value, 4),
            expendable=3,
        ),
        Column("bound", "bottleneck", lambda p: p.total.bound, right=False),
        Column("lower_s", "at least", lambda p: p.total.lower_s, lambda value: scaled(value, "s", 4)),
        Column(
            "expected_s",
            "expected",
            lambda p: p.expected.expected_s if p.expected else None,
            lambda value: scaled(value, "s", 4),
        ),
        Column(
            "no_overlap_s", "no overlap", lambda p: p.total.no_overlap_s, lambda value: scaled(value, "s", 4), wide=True
        ),
        *(_measured() if any(compared(prediction).measured_s for prediction in done) else ()),
    ]
    notes = list(dict.fromkeys(note for prediction in done for note in prediction.roof_notes))
    notes += _below(done)
    notes += [protocol_line(name) for name in dict.fromkeys(protocol(prediction.line) for prediction in done)]
    if any(protocol(prediction.line) in FROM_L2 for prediction in done):
        notes.append(BOTTLENECKS)
    if any("protocol" not in prediction.line for prediction in done):
        notes.append(f"Cases without a protocol use protocol {PROTOCOL}.")
    title = f"Bounds and expected times on {gpu.title} ({label(gpu.file)}, {knowledge or gpu.knowledge})"
    return Sheet(columns, done, title=title, notes=notes)


def _measured() -> tuple[Column, ...]:
    """Returns columns for the measured time, and for bound and expected time as shares of it."""

    def share(value: float) -> str:
        return f"{value:.1%}"

    return (
        Column("measured_s", "measured", lambda p: compared(p).measured_s, lambda value: scaled(value, "s")),
        Column("of_bound", "of bound", lambda p: compared(p).of_roofline, share),
        Column("of_expected", "of expected", lambda p: compared(p).of_expected, share),
    )


def _below(done: Sequence[Prediction]) -> list[str]:
    """Returns a note if measured times are below the lower bound."""
    number = sum(compared(prediction).below for prediction in done)
    if not number:
        return []
    return [
        f"{number} of {len(done)} cases were measured below the lower bound. Check their GPU, data type and protocol."
    ]
