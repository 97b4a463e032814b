"""Commands that refuse an option that is given twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import click

from perfmodel.cli.screen import echo
from perfmodel.errors import PerfmodelError, UsageError
from perfmodel.paths import reporting

# What to do instead, by option.
INSTEAD = {
    "--gpu": "Use 'perfmodel compare' for several GPUs.",
    "--config": "Use 'perfmodel compare' for several workloads.",
}


class _Once:
    """Checks the arguments before they are parsed: an option without ``multiple`` may be given once, and the value of an
    option is not the name of another.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        values, _, order = self.make_parser(ctx).parse_args(args=list(args))  # type: ignore[attr-defined]
        for option in order:
            if isinstance(option, click.Option) and (taken := self._names(ctx) & {*_texts(values.get(option.name))}):
                raise UsageError(
                    ctx.command_path, f"{option.opts[0]} is followed by {taken.pop()}, not by a value",
                    f"{option.opts[0]} {option.metavar or 'VALUE'} is accepted", "Add the value.",
                )  # fmt: skip
        for parameter, number in Counter(order).items():
            if number > 1 and isinstance(parameter, click.Option) and not parameter.multiple:
                raise twice(ctx.command_path, parameter, number)
        rest: list[str] = super().parse_args(ctx, args)  # type: ignore[misc]
        return rest

    def _names(self, ctx: click.Context) -> set[str]:
        """The names of all options of the command."""
        known = self.get_params(ctx)  # type: ignore[attr-defined]
        return {name for one in known if isinstance(one, click.Option) for name in (*one.opts, *one.secondary_opts)}


def _texts(value: object) -> list[str]:
    """The texts that are given to an option."""
    return [one for one in (value if isinstance(value, list) else [value]) if isinstance(one, str)]


def twice(command: str, option: click.Parameter, number: int = 2) -> UsageError:
    """Returns the error for an option that is given several times."""
    names = "/".join((*option.opts, *option.secondary_opts))
    return UsageError(
        command, f"{names} is given {number} times", "it is accepted once",
        INSTEAD.get(option.opts[0], "Remove all but one of them."),
    )  # fmt: skip


class Command(_Once, click.Command):
    """A command that accepts an option once, unless it may be repeated. It names the files that it used from outside the
    package.
    """

    def invoke(self, ctx: click.Context) -> Any:
        told: dict[tuple[str, str], None] = {}
        try:
            with reporting(lambda name, path: told.setdefault((name, path))):
                return super().invoke(ctx)
        except PerfmodelError:  # the message stands alone
            told.clear()
            raise
        finally:
            for name, path in told:
                echo(f"{name}: {path} is used, which is not a shipped file.", err=True)


class Group(_Once, click.Group):
    """A group of such commands."""

    command_class = Command


def command() -> Callable[[Callable[..., Any]], click.Command]:
    """Returns a decorator that makes a function such a command."""
    return click.command(cls=Command)
