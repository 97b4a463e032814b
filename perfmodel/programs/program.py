"""A program as data: operator calls in order, where each comes from, and the memory that they use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from perfmodel.aten.calls import Call

PHASES = ("forward", "backward", "optimizer", "replicas")  # the last: what a wrapper does for data parallelism


class Host(NamedTuple):
    """The work of the host from the previous call to the end of this one, except launches.

    ``views``: operators that launch no kernel, such as a transpose. ``modules``: torch modules entered. ``functions``:
    calls of torch functions from Python. ``waits``: the host waits for the device, as for ``item()``. ``units``: hooks of
    FSDP around a layer. ``shards``: parameters of a call that are shards.
    """

    views: int = 0
    modules: int = 0
    functions: int = 0
    waits: bool = False
    units: int = 0
    shards: int = 0


class Step(NamedTuple):
    """One call of a program.

    ``module`` is the path of the module that makes it, such as ``model.layers.0.mlp``. ``stream``: kernels of different
    streams run at the same time. ``frees`` are the storages that nothing refers to any more after it. ``source`` is the operator or kernel name as its origin spells it.
    """

    call: Call
    module: str = ""
    phase: str = "forward"
    stream: int = 0
    host: Host = Host()
    frees: tuple[int, ...] = ()
    source: str = ""


class Resident(NamedTuple):
    """A storage that exists before the program starts: its bytes and its role (parameter, buffer, input, state)."""

    byte: Any
    role: str
    name: str = ""


class Program(NamedTuple):
    """Steps in order. ``resident`` are the storages that exist before the first step, by identity.

    ``guesses`` say which values the program asked for that only data could tell, and what was assumed. ``notes`` are for
    the reader of the figures. ``dims`` are the symbolic sizes with their values, if any. ``traced`` is the program as a
    compiler sees it, where code takes other branches while it is compiled.
    """

    name: str
    steps: tuple[Step, ...]
    resident: Mapping[int, Resident] = {}
    guesses: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    dims: Mapping[str, int] = {}
    traced: Program | None = None
