"""The record of a capture: steps, the work of the host between them, and the current module."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from typing import Any

import torch

from perfmodel.aten.calls import Call, Operand
from perfmodel.capture.precision import of_call
from perfmodel.capture.storages import Storages
from perfmodel.programs.program import Host, Step

_node = torch._C._current_autograd_node
_sequence = torch.autograd._get_sequence_nr


class Tape:
    """Steps in order.

    A node of the backward pass has the sequence number that was current when the forward pass created it. The tape keeps
    the module path for ranges of these numbers, so that backward calls are those of the module that caused them.
    """

    def __init__(self, plain: Callable[[Any], Any] | None = None) -> None:
        self.storages = Storages(plain)
        self.steps: list[Step] = []
        self.notes: dict[str, None] = {}
        self.path = ""
        self.in_optimizer = False
        self.views = self.modules = self.functions = 0
        self.waits = False
        self.truth = False  # bool(tensor) is being evaluated
        self.seen_backward = False
        self._starts: list[int] = [-1]
        self._paths: list[str] = [""]
        self.owners: dict[int, str] = {}  # paths of the modules by the identity of their parameters

    def enter(self, path: str) -> None:
        """Notes that the calls from now on are those of the module of this path."""
        self.path = path
        start = _sequence()
        if start == self._starts[-1]:
            self._paths[-1] = path
        else:
            self._starts.append(start)
            self._paths.append(path)

    def place(self) -> tuple[str, str]:
        """The module path and the phase of a call that is made now."""
        node = _node()
        if node is None:
            optimizer = self.in_optimizer or (self.seen_backward and not self.path and not torch.is_grad_enabled())
            return self.path, "optimizer" if optimizer else "forward"
        self.seen_backward = True
        if self.path:  # a module that runs again in the backward pass
            return self.path, "backward"
        return self._paths[
            bisect_right(self._starts, node._sequence_nr()) - 1
        ] if node._sequence_nr() < 1 << 62 else self._owner(node), "backward"

    def _owner(self, node: Any) -> str:
        """The module of the parameter whose gradient a node accumulates."""
        variable = getattr(node, "variable", None)
        return self.owners.get(id(variable), "")

    def record(
        self,
        name: str,
        arguments: tuple[Any, ...],
        keywords: dict[str, Any],
        results: tuple[Operand, ...],
        overload: str = "",
    ) -> None:
        """Adds a step. Storages that have disappeared since the previous step are freed by that one."""
        self._settle()
        host = Host(self.views, self.modules, self.functions, self.waits)
        self.views = self.modules = self.functions = 0
        self.waits = False
        path, phase = self.place()
        self.steps.append(
            Step(
                Call(name, arguments, keywords, results, overload, of_call(name)),
                path,
                phase,
                0,
                host,
                (),
                f"aten::{name}",
            )
        )

    def _settle(self) -> None:
        gone = self.storages.gone
        if gone and self.steps:
            last = self.steps[-1]
            self.steps[-1] = last._replace(frees=(*last.frees, *gone))
        gone.clear()

    def rewind(self) -> None:
        """Forgets the steps so far. Storages keep their numbers."""
        self.steps.clear()
        self.storages.gone.clear()
        self.views = self.modules = self.functions = 0
        self.waits = self.seen_backward = False

    def finished(self) -> tuple[Step, ...]:
        """All steps."""
        self._settle()
        return tuple(self.steps)
