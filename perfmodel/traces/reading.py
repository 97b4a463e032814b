"""Reads a trace file: keeps the operators, launches, kernels and named ranges, and drops all other events at once.

Flow arrows and Python functions other than modules are dropped while the file is read, so that a million events need a
few hundred megabytes.
"""

from __future__ import annotations

from typing import Any

from perfmodel.errors import InputError, shown
from perfmodel.traces.events import Activity, Launch, Range, Signature, Trace
from perfmodel.traces.scanning import ACTION, Scan

MOST_EVENTS = 20_000_000  # that are kept
LONGEST_NAME = 4000
MICRO = 1e-6

# Categories of Kineto, by the spelling of every version since torch 1.8.
_KINDS = {
    "cpu_op": "operator", "Operator": "operator", "operator": "operator",
    "user_annotation": "named", "python_function": "python",
    "cuda_runtime": "launch", "cuda_driver": "launch", "Runtime": "launch", "runtime": "launch",
    "kernel": "kernel", "Kernel": "kernel", "gpu_memcpy": "copy", "Memcpy": "copy", "gpu_memset": "fill",
    "Memset": "fill", "overhead": "delay",
}  # fmt: skip
_MODULE = "nn.Module: "
_COLLECTIVE = (
    "Collective name", "In msg nelems", "Out msg nelems", "Group size", "dtype", "Process Group Name",
    "Process Group Ranks",
)  # fmt: skip


def read(path: str) -> Trace:
    """Reads a trace. Text that is not one, or that has no work of a device, is an error."""
    import gc

    collecting = gc.isenabled()
    gc.disable()  # only plain values are made, none of them in a cycle
    try:
        return _Reader(path).trace()
    finally:
        if collecting:
            gc.enable()


class _Reader:
    def __init__(self, path: str) -> None:
        self.path = path
        self.zero_us: float | None = None
        self.operators: dict[int, list[Range]] = {}
        self.named: list[Range] = []
        self.modules: dict[int, list[Range]] = {}
        self.launches: dict[int, Launch] = {}
        self.activities: list[Activity] = []
        self.delays: list[Range] = []
        self.threads: dict[tuple[Any, Any], int] = {}
        self.signatures: dict[str, Signature] = {}
        self.names: dict[str, str] = {}
        self.dropped = 0

    def trace(self) -> Trace:
        scan, kept = Scan(self.path), 0
        for event in scan:
            category = event.get("cat")
            kind = _KINDS.get(category) if type(category) is str else None
            if kind is None or event.get("ph") != "X":
                continue
            kept += self._take(event, kind, scan)
            if kept > MOST_EVENTS:
                raise InputError(
                    self.path, f"it has more than {MOST_EVENTS:,} operators and kernels", "a shorter trace is accepted",
                    "Profile fewer steps.",
                )  # fmt: skip
        if not self.activities:
            raise InputError(
                self.path, "it has no kernel, copy or fill of a device", "a trace with device activity is accepted",
                "Record it with activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA].",
            )  # fmt: skip
        self.activities.sort(key=lambda one: one.start_s)
        for found in (*self.operators.values(), *self.modules.values(), self.named, self.delays):
            found.sort(key=lambda one: (one.start_s, -one.end_s))
        return Trace(
            self.path, scan.header, self.operators, self.named, self.modules, self._launched(), self.activities,
            self.delays, tuple(self.threads), scan.count, self.dropped,
        )  # fmt: skip

    def _take(self, event: dict[str, Any], kind: str, scan: Scan) -> bool:
        name, args = event.get("name"), event.get("args")
        if kind == "python" and not (isinstance(name, str) and name.startswith(_MODULE)):
            return False
        start, length = event.get("ts"), event.get("dur", 0)
        try:
            if self.zero_us is None:
                self.zero_us = float(start)  # type: ignore[arg-type]
            start_s = (start - self.zero_us) * MICRO  # type: ignore[operator]
            end_s = start_s + length * MICRO
        except (TypeError, ValueError, OverflowError):
            raise self._refused(scan, f"ts = {shown(start)}, dur = {shown(length)}", "numbers are accepted") from None
        if not (length >= 0 and -1e9 < start_s < 1e9 and end_s < 1e9):
            self.dropped += 1
            return False
        if not isinstance(name, str):
            raise self._refused(scan, f"name = {shown(name)}", "text is accepted")
        args = args if type(args) is dict else {}
        getattr(self, f"_{kind}")(self._known(name), start_s, end_s, event, args)
        return True

    def _operator(self, name: str, start_s: float, end_s: float, event: dict[str, Any], args: dict[str, Any]) -> None:
        thread = self._thread(event)
        ranges = self.operators.setdefault(thread, [])
        ranges.append(
            Range(
                name, start_s, end_s, thread, _whole(args.get("External id", args.get("external id"))),
                _whole(args.get("Sequence number")), self._signature(args), _whole(args.get("Fwd thread id")),
            )
        )  # fmt: skip

    def _named(self, name: str, start_s: float, end_s: float, event: dict[str, Any], args: dict[str, Any]) -> None:
        number = _whole(args.get("External id", args.get("external id")))
        self.named.append(Range(name, start_s, end_s, self._thread(event), number, signature=self._signature(args)))

    def _python(self, name: str, start_s: float, end_s: float, event: dict[str, Any], args: dict[str, Any]) -> None:
        thread = self._thread(event)
        self.modules.setdefault(thread, []).append(Range(name.removeprefix(_MODULE), start_s, end_s, thread))

    def _launch(self, name: str, start_s: float, end_s: float, event: dict[str, Any], args: dict[str, Any]) -> None:
        number = _whole(args.get("External id", args.get("external id")))
        self.launches[_whole(args.get("correlation"))] = Launch(name, start_s, end_s, self._thread(event), number)

    def _kernel(self, name: str, start_s: float, end_s: float, event: dict[str, Any], args: dict[str, Any]) -> None:
        details = {key: args[key] for key in _COLLECTIVE if key in args} if "Collective name" in args else {}
        self._activity("kernel", name, start_s, end_s, event, args, details)

    def _copy(self, name: str, start_s: float, end_s: float, event: dict[str, Any], args: dict[str, Any]) -> None:
        self._activity("copy", name, start_s, end_s, event, args, {"bytes": max(0, _whole(args.get("bytes")))})

    def _fill(self, name: str, start_s: float, end_s: float, event: dict[str, Any], args: dict[str, Any]) -> None:
        self._activity("fill", name, start_s, end_s, event, args, {"bytes": max(0, _whole(args.get("bytes")))})

    def _delay(self, name: str, start_s: float, end_s: float, event: dict[str, Any], args: dict[str, Any]) -> None:
        self.delays.append(Range(name, start_s, end_s, -1))

    def _activity(
        self, kind: str, name: str, start_s: float, end_s: float, event: dict[str, Any], args: dict[str, Any],
        details: dict[str, Any],
    ) -> None:  # fmt: skip
        self.activities.append(
            Activity(
                name, kind, start_s, end_s, _whole(args.get("device", event.get("pid"))),
                _whole(args.get("stream", event.get("tid"))), _whole(args.get("correlation")),
                _whole(args.get("External id", args.get("external id"))), _three(args.get("grid")),
                _three(args.get("block")), _whole(args.get("shared memory", 0)), details,
            )
        )  # fmt: skip

    def _launched(self) -> dict[int, Launch]:
        """The launches that put work on a device, and those on which the host waits for it."""
        used = {one.correlation for one in self.activities}
        return {key: one for key, one in self.launches.items() if key in used or "Synchronize" in one.name}

    def _thread(self, event: dict[str, Any]) -> int:
        key = (_plain(event.get("pid")), _plain(event.get("tid")))
        return self.threads.setdefault(key, len(self.threads))

    def _known(self, name: str) -> str:
        return self.names.setdefault(name, name[:LONGEST_NAME])

    def _signature(self, args: dict[str, Any]) -> Signature | None:
        """The operator's arguments; calls with the same ones share a record."""
        dims = args.get("Input Dims", args.get("Input dims"))
        if not isinstance(dims, list):
            return None
        types, strides, values = args.get("Input type"), args.get("Input Strides"), args.get("Concrete Inputs")
        key = repr((dims, types, strides, values))
        found = self.signatures.get(key)
        if found is None:
            found = self.signatures[key] = Signature(dims, _listed(types), _listed(strides), _listed(values))
        return found

    def _refused(self, scan: Scan, found: str, accepted: str) -> InputError:
        return InputError(f"{self.path}: event {scan.count}", found, accepted, ACTION)


def _whole(value: Any) -> int:
    """A whole number, or -1."""
    return value if type(value) is int else int(value) if type(value) is float and value.is_integer() else -1


def _plain(value: Any) -> Any:
    return value if isinstance(value, (int, str, float)) else None


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _three(value: Any) -> tuple[int, int, int]:
    if isinstance(value, list) and len(value) == 3 and all(type(one) is int and one >= 0 for one in value):
        return (value[0], value[1], value[2])
    return (0, 0, 0)
