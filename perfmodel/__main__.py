"""Entry point of the command line: runs a command and reports any error as one line and an exit code."""

from __future__ import annotations

import gc
import os
import signal
import sys
from contextlib import suppress

import click

from perfmodel.cli import cli
from perfmodel.errors import PerfmodelError, UsageError, did_you_mean


def main() -> None:
    """Runs ``perfmodel`` and exits. Codes: 0 done, 1 bad input, 2 usage, 3 outside bounds, 4 no device."""
    before, often = {number: signal.signal(number, _stopped) for number in _stopping()}, gc.get_threshold()
    _show_everything()
    gc.set_threshold(100_000)  # loading modules creates no garbage
    try:
        code = cli.main(prog_name="perfmodel", standalone_mode=False)
        sys.stdout.flush()
    except PerfmodelError as error:
        code = _report(str(error), error.exit_code)
    except click.exceptions.Abort:
        code = _report("perfmodel: interrupted; no partly written file is left.", 128 + signal.SIGINT)
    except Stopped as stop:
        code = _report(f"perfmodel: stopped by {stop.signal.name}; no partly written file is left.", 128 + stop.signal)
    except click.ClickException as error:
        code = _report(_usage(error), UsageError.exit_code)
    except BrokenPipeError:  # the reader of the pipe has exited
        _drop_output()
        code = 0
    except OSError as error:  # files report their own errors: this is stdout
        code = _report(f"stdout: it cannot be written ({error.strerror or error}); a device with space is accepted. "
                       "Write to another place.", PerfmodelError.exit_code)  # fmt: skip
        _drop_output()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        gc.set_threshold(*often)
    sys.exit(code or 0)


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


class Stopped(BaseException):
    """Raised on SIGTERM and SIGHUP, so that partly written files are removed as after Ctrl-C."""

    def __init__(self, number: int) -> None:
        self.signal = signal.Signals(number)
        super().__init__(self.signal.name)


def _stopping() -> list[signal.Signals]:
    """Returns the signals that stop a run. ``nohup`` lets a run ignore SIGHUP, which Windows does not have."""
    known = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    return [number for number in known if signal.getsignal(number) is not signal.SIG_IGN]


def _stopped(number: int, frame: object) -> None:
    raise Stopped(number)


def _usage(error: click.ClickException) -> str:
    """Returns a usage error of click in the form of all other messages."""
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
    return f"'{parameter.opts[0]}'" if isinstance(parameter, click.Option) else f"'{parameter.human_readable_name}'"


def _report(message: str, code: int) -> int:
    print(message, file=sys.stderr)
    return code


if __name__ == "__main__":
    main()
