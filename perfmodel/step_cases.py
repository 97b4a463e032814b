"""Cases of a whole step: a model or a workload in one phase on one GPU, or divided over several by a plan.

    {"op": "step", "config": "gpt2", "phase": "train", "shape": {"B": 16, "N": 1024}, "plan": {"dp": 2, "zero": 3},
     "dtype": "bf16", "impl": "transformers", "protocol": "eager"}

``B`` is the global batch. ``L`` is the number of layers: a model of ``transformers`` has only its first layers, and a
workload of one layer becomes a stack. Without ``plan``, one GPU runs the step. ``impl``: ``layers`` is this project's
torch code of the workload, with a causal mask except in decoding; ``transformers`` is the code of that package.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from perfmodel import paths
from perfmodel.case_values import size, word
from perfmodel.config_files import workload as read_workload
from perfmodel.errors import InputError, did_you_mean, said, shown
from perfmodel.expression import Expression
from perfmodel.plans.asking import plan_of
from perfmodel.plans.plan import SCHEDULES, Plan
from perfmodel.records import WRITTEN, measured_s
from perfmodel.symbols import ALIASES, SYMBOLS
from perfmodel.units import ITEM_BYTES
from perfmodel.workload import PHASES, Workload

STEP = "step"
LAYERS, TRANSFORMERS = "layers", "transformers"
IMPLEMENTATIONS = (LAYERS, TRANSFORMERS)
PROTOCOLS: Mapping[str, tuple[str, ...]] = {LAYERS: ("warm", "eager"), TRANSFORMERS: ("eager",)}
DTYPES: Mapping[str, tuple[str, ...]] = {LAYERS: tuple(ITEM_BYTES), TRANSFORMERS: ("bf16", "fp16", "fp32")}
KEYS = (
    "op", "config", "phase", "shape", "plan", "dtype", "impl", "protocol", "system", "measured_us", "comment",
)  # fmt: skip
MODEL_SIZES: Mapping[str, tuple[str, ...]] = {"prefill": ("B", "N"), "decode": ("B", "S"), "train": ("B", "N")}
DEGREES = ("tp", "pp", "dp", "ep", "cp", "virtual")
WORDS: Mapping[str, tuple[str, ...]] = {
    "schedule": SCHEDULES, "recompute": ("none", "selective", "full"), "optimizer": ("adam", "none"),
}  # fmt: skip


class StepCase(NamedTuple):
    """A case of a step. ``file`` is the file of its config, and ``shape`` has the sizes that the line gives."""

    line: Mapping[str, Any]
    where: str
    config: str
    file: str
    phase: str
    shape: Mapping[str, int]
    plan: Plan
    dtype: str
    impl: str
    protocol: str
    system: str = ""
    measured_s: float | None = None

    @property
    def workload(self) -> Workload:
        """The workload in the data type of the case, as a stack of L layers if the shape gives L."""
        found = read_workload(self.file).with_dtype(self.dtype)
        if "L" not in self.shape or "L" in found.settable():
            return found
        repeat = Expression(str(self.shape["L"]), f"{self.where}: L")
        steps = tuple(step._replace(repeat=repeat, group="layers.") for step in found.steps)
        return found._replace(steps=steps)

    @property
    def sizes(self) -> dict[str, int]:
        """The sizes of the workload that the shape sets."""
        known = self.workload.settable()
        return {name: value for name, value in self.shape.items() if name != "L" or "L" in known}


def step_case(line: Mapping[str, Any], where: str = "case") -> StepCase:
    """Returns the case of a JSON object whose ``op`` is ``step``."""
    for key in line:
        if key not in KEYS and key not in WRITTEN:
            raise InputError(
                where, f"{shown(key)} is not a key of a step", f"a step accepts {', '.join(KEYS)}",
                did_you_mean(key, KEYS) or "Remove it.",
            )  # fmt: skip
    impl = word(line, "impl", IMPLEMENTATIONS, None, where)
    found = StepCase(
        line=line,
        where=where,
        config=_text(line, "config", where),
        file=_file(_text(line, "config", where), impl, where),
        phase=word(line, "phase", PHASES, None, where),
        shape={},
        plan=_plan(line.get("plan", {}), impl, f"{where}: plan"),
        dtype=word(line, "dtype", DTYPES[impl], None, where),
        impl=impl,
        protocol=word(line, "protocol", PROTOCOLS[impl], None, where),
        system=_text(line, "system", where) if "system" in line else "",
        measured_s=measured_s(line, where),
    )
    found = found._replace(shape=_shape(line, found))
    if impl == TRANSFORMERS and found.shape["B"] % found.plan.dp:
        raise InputError(
            f"{where}: plan", f"dp {found.plan.dp} does not divide the global batch B = {found.shape['B']}",
            "replicas process equal shares of the batch", "Change B or dp.",
        )  # fmt: skip
    return found


def _text(line: Mapping[str, Any], key: str, where: str) -> str:
    """Returns a text that the line must have."""
    value = line.get(key)
    if key not in line:
        raise InputError(where, f"'{key}' is missing", "a name or a path is accepted", f'Add "{key}".')
    if not isinstance(value, str) or not value or not value.isprintable():
        raise InputError(f"{where}: {key}", f"{said(value)} is not a name", "a name or a path is accepted")
    return value


def _file(config: str, impl: str, where: str) -> str:
    """Returns the file of a config; transformers builds a model from a config.json alone."""
    path = paths.find("configs", config)
    if impl == TRANSFORMERS and not path.endswith(".json"):
        raise InputError(
            f"{where}: config", f"{shown(config)} is a workload file", "transformers needs the config.json of a model",
            f'Name such a file, or write "impl": "{LAYERS}".',
        )  # fmt: skip
    return path


def _plan(given: Any, impl: str, where: str) -> Plan:
    """Returns the plan of an object with fields of a plan."""
    if not isinstance(given, dict):
        raise InputError(where, f"{said(given)} is not an object", "an object of fields of a plan is accepted")
    for name, value in given.items():
        if name not in Plan._fields:
            raise InputError(
                f"{where}: {shown(name)[1:-1]}", "it is not a field of a plan", f"{', '.join(Plan._fields)} are accepted",
                did_you_mean(name, Plan._fields) or "Remove it.",
            )  # fmt: skip
        if name in WORDS:
            word(given, name, WORDS[name], None, where)
            continue
        accepted, fits = _accepted(name)
        if not fits(value):
            raise InputError(f"{where}: {name}", f"{said(value)} is not a value of it", f"{accepted} is accepted")
        if impl == TRANSFORMERS and name not in ("dp", "zero"):
            raise InputError(
                f"{where}: {name}", f"it is given with impl {TRANSFORMERS}", "dp and zero are accepted", "Remove it."
            )
    return plan_of(given)


def _accepted(name: str) -> tuple[str, Callable[[Any], bool]]:
    """Returns what a field of a plan accepts, and the test for it."""
    if name == "sequence_parallel":
        return "true or false", lambda value: isinstance(value, bool)
    least, most = (1, 1 << 20) if name in DEGREES else (0, 3) if name == "zero" else (0, 1 << 30)
    text = f"a whole number from {least} to {most:,}"
    return text, lambda value: type(value) is int and least <= value <= most


def _shape(line: Mapping[str, Any], found: StepCase) -> dict[str, int]:
    """Returns the sizes of the line: those of the phase for a model of transformers, any of a workload's otherwise."""
    where, shape = f"{found.where}: shape", line.get("shape")
    if not isinstance(shape, dict):
        raise InputError(where, f"{said(shape)} is not an object", "an object of sizes is accepted", "Add B and N.")
    required = MODEL_SIZES[found.phase] if found.impl == TRANSFORMERS else ()
    settable = read_workload(found.file).settable() if found.impl == LAYERS else frozenset(required)
    known = sorted(name for name in {*settable, "L"} if SYMBOLS[name].kind == "size")
    sizes: dict[str, int] = {}
    for given, value in shape.items():
        name = ALIASES.get(given, given)
        if name not in known or name in sizes:
            what = "is given twice" if name in sizes else f"is not a size of {found.config} in phase {found.phase}"
            raise InputError(
                where, f"{shown(given)} {what}", f"its sizes are {', '.join(known)}", did_you_mean(given, known)
            )
        sizes[name] = size(name, value, f"{where}: {name}")
    for name in required:
        if name not in sizes:
            raise InputError(where, f"'{name}' is missing", f"{', '.join(required)} are required", f"Add {name}.")
    return sizes


def plan_words(line: Mapping[str, Any]) -> str:
    """Returns the plan of a line as text, such as ``dp 4 zero 3``."""
    plan = line.get("plan")
    return " ".join(f"{name} {value}" for name, value in plan.items()) if isinstance(plan, dict) and plan else "1 GPU"


def case_name(line: Mapping[str, Any]) -> str:
    """Returns what a line names: the function of an elementwise case, the config and phase of a step, or ``op``."""
    if line.get("op") == STEP:
        name = str(line.get("config", "?"))
        return f"{name if paths.is_name(name) else paths.stem(name)} {line.get('phase', '?')}"
    return str(line.get("kind", line.get("op", "?")))
