"""Entry point of the command line: runs a command and reports any error as one line and an exit code."""

from __future__ import annotations

import gc
import os
import signal
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from perfmodel import stopping
from perfmodel.errors import PerfmodelError, UsageError, did_you_mean

if TYPE_CHECKING:  # loaded where signals are handled
    import click

TOLD = 128 + signal.SIGINT  # the exit code of a command that has reported its interruption


def main() -> None:
    """Runs ``perfmodel`` and exits. Codes: 0 done, 1 bad input, 2 usage, 3 outside bounds, 4 no device, 128 + a signal
    that stopped it.
    """
    often = gc.get_threshold()
    gc.set_threshold(max(100_000, often[0]))  # loading modules creates no garbage
    try:
        code = _code()
    except KeyboardInterrupt:  # while handlers of signals were set
        code = _report(_stopped(signal.SIGINT), TOLD)
    finally:
        gc.set_threshold(*often)
    sys.exit(code)


def _code() -> Any:
    """Runs the command, reports its error or the signal that stopped it, and returns the exit code."""
    code = None
    with stopping.raising() as received:
        try:
            try:
                code = _run()
            finally:
                received.done = True
        except SystemExit as end:
            code = end.code
        except BaseException as error:
            if received.number is None:
                code = _reported(error)
        if received.number is not None and code != TOLD:  # a command may have returned in spite of the signal
            code = _report(_stopped(signal.Signals(received.number)), 128 + received.number)
    return code


def _run() -> Any:
    """Runs the command and returns its exit code."""
    from perfmodel.cli import cli

    _show_everything()
    code = cli.main(prog_name="perfmodel", standalone_mode=False)
    sys.stdout.flush()
    return code or 0


def _reported(error: BaseException) -> int:
    """Reports an error and returns its exit code. Raises an error that is not expected."""
    import click

    match error:
        case PerfmodelError():
            return _report(str(error), error.exit_code)
        case click.exceptions.Abort():
            return _report(_stopped(signal.SIGINT), TOLD)
        case click.ClickException():
            return _report(_usage(error), UsageError.exit_code)
        case BrokenPipeError():  # the reader of the pipe has exited
            _drop_output()
            return 0
        case OSError():  # files report their own errors: this is stdout
            _drop_output()
            return _report(f"stdout: it cannot be written ({error.strerror or error}); a device with space is "
                           "accepted. Write to another place.", PerfmodelError.exit_code)  # fmt: skip
    raise error


def _show_everything() -> None:
    """Lets a stream show characters that its encoding lacks, such as cp1252's, in ASCII. A closed stream is replaced by
    one that drops its text.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - until the end
        elif getattr(stream, "errors", None) == "strict" and hasattr(stream, "reconfigure"):
            from perfmodel import plain  # UTF-8 lacks no character but halves of surrogate pairs

            stream.reconfigure(errors=plain.NAME)


def _drop_output() -> None:
    """Prevents Python from writing the rest of the output again when it exits."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _stopped(number: signal.Signals) -> str:
    word = "interrupted" if number == signal.SIGINT else f"stopped by {number.name}"
    return f"perfmodel: {word}; no partly written file is left."


def _usage(error: click.ClickException) -> str:
    """Returns a usage error of click in the form of all other messages."""
    import click

    context = getattr(error, "ctx", None)
    command = context.command_path if context else "perfmodel"
    accepted, action = f"the options and arguments in '{command} --help' are accepted", f"Run '{command} --help'."
    match error:
        case click.NoSuchOption(option_name=name):
            found, action = f"there is no option '{name}'", did_you_mean(name, error.possibilities or ()) or action
        case click.MissingParameter(param=click.Parameter() as parameter):
            found = f"{parameter.param_type_name} {_name(parameter)} is missing"
        case _:  # only click knows what is wrong with the value
            found = error.format_message().strip().rstrip(" .")
            found = found[:1].lower() + found[1:]
    return str(UsageError(command, found, accepted, action))


def _name(parameter: click.Parameter) -> str:
    """Returns the name that the user types for the parameter."""
    import click

    return f"'{parameter.opts[0]}'" if isinstance(parameter, click.Option) else f"'{parameter.human_readable_name}'"


def _report(message: str, code: int) -> int:
    print(message, file=sys.stderr)
    return code


if __name__ == "__main__":
    main()
