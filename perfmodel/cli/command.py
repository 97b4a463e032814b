"""Commands that refuse an option given twice where only its last value would count."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import click

from perfmodel.errors import UsageError

# What to do instead, by option.
INSTEAD = {
    "--gpu": "'perfmodel compare' takes several cards.",
    "--config": "'perfmodel compare' takes several workloads.",
}


class _Once:
    """Looks through the arguments before they are read: an option without ``multiple`` may stand once."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        _, _, order = self.make_parser(ctx).parse_args(args=list(args))  # type: ignore[attr-defined]
        for parameter, number in Counter(order).items():
            if number > 1 and isinstance(parameter, click.Option) and not parameter.multiple:
                raise twice(ctx.command_path, parameter, number)
        rest: list[str] = super().parse_args(ctx, args)  # type: ignore[misc]
        return rest


def twice(command: str, option: click.Parameter, number: int = 2) -> UsageError:
    """The error of an option that is given several times."""
    names = "/".join((*option.opts, *option.secondary_opts))
    return UsageError(
        command, f"{names} is given {number} times", "it is accepted once",
        INSTEAD.get(option.opts[0], "Leave all but one of them out."),
    )  # fmt: skip


class Command(_Once, click.Command):
    """A command that takes each option once, unless the option says that it may be repeated."""


class Group(_Once, click.Group):
    """A group of such commands."""

    command_class = Command


def command() -> Callable[[Callable[..., Any]], click.Command]:
    """Makes a function such a command."""
    return click.command(cls=Command)
