"""Output files: every file that a user names is written here. The path is checked before any work is done.

A regular file is written completely or not at all: a temporary file beside it replaces it at the end and gets its mode.
Symbolic links are followed. A terminal, a null device or a pipe is written to and never replaced. Anything else is
refused.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import BinaryIO

from perfmodel.errors import InputError, shown

LONGEST = 300  # characters of a path in a message
ENDS_BYTE = 16384  # bytes at the start and at the end of a file that show who wrote it
ACCEPTED = "a file in a writable folder with enough free space is accepted"
# What the files of this program contain at their start or end: PNG, SVG, PDF, HTML, CSV, JSON Lines, readings, traces.
MARKS = (
    b"Software\0perfmodel", b"<dc:title>perfmodel</dc:title>", b"/Creator (perfmodel)", b"intensity_flop_per_byte",
    b"# Measured", b'"schemaVersion"', b'content="perfmodel"', b'"idle_host_s"',
)  # fmt: skip


def checked(path: str, where: str, endings: Sequence[str] = (), what: str = "") -> str:
    """Returns the path if ``what`` can be written to it, in the format of its ending; raises InputError otherwise."""
    *first, last = endings or ("",)
    accepted = f"a file name that ends in {', '.join(first)} or {last} is accepted" if endings else "a file is accepted"
    if os.path.isdir(path):
        raise InputError(where, f"{shown(path, LONGEST)} is a folder", accepted, "Name a file in the folder.")
    ending = os.path.splitext(path)[1].lower()
    if endings and ending not in endings:
        unsaid = f"{shown(path, LONGEST)} has no ending that names a format"
        raise InputError(
            where, f"{shown(ending)} is not a format of {what}" if ending else unsaid, accepted, "Change the ending."
        )
    folder = os.path.dirname(os.path.realpath(path))
    if not os.path.isdir(folder):
        asked = os.path.dirname(path) or "."
        named = asked if not os.path.isdir(asked) else folder  # the path may be a link into a folder that is gone
        raise InputError(
            where, f"there is no folder {shown(named, LONGEST)}", "an existing folder is accepted", "Create it first."
        )
    _streamed(path, where)
    return path


def regular(path: str, where: str) -> str:
    """Returns the path if it is a regular file or does not exist; raises InputError for a device or a pipe."""
    if _streamed(path, where):
        raise InputError(
            where, f"{shown(path, LONGEST)} is a device or a pipe", "a regular file is accepted", "Choose another path."
        )
    return path


def foreign(path: str) -> str:
    """Returns a note if the path is a file with contents that this program did not write; otherwise an empty text."""
    try:
        if not os.path.isfile(path) or not os.path.getsize(path):
            return ""
        with open(path, "rb") as file:
            ends = file.read(ENDS_BYTE)
            file.seek(-min(ENDS_BYTE, os.path.getsize(path)), os.SEEK_END)
            ends += file.read(ENDS_BYTE)
    except OSError:
        return ""
    return (
        ""
        if any(mark in ends for mark in MARKS)
        else f"{shown(path, LONGEST)} exists and was not written by perfmodel; it is replaced."
    )


def begins(path: str, text: str) -> bool:
    """Returns whether a regular file begins with this text."""
    with open(path, "rb") as file:
        return file.read(len(text.encode())) == text.encode()


@contextmanager
def replacing(path: str, where: str) -> Iterator[BinaryIO]:
    """Opens a temporary file that replaces the path on success and is removed on failure. A device or pipe is opened
    itself.
    """
    target = os.path.realpath(path)
    try:
        if _streamed(target, where):
            with open(target, "wb") as file:
                yield file
            return
        beside = os.path.join(
            os.path.dirname(target), f".{os.path.basename(target)[:100]}.{os.getpid()}.{os.urandom(4).hex()}.part"
        )
        try:
            with open(beside, "xb") as file:  # never through a link that somebody placed there
                _like(file, target)
                yield file
            os.replace(beside, target)
        finally:
            with suppress(OSError):
                os.unlink(beside)
    except OSError as error:
        raise refusal(path, where, error) from None


def write(path: str, where: str, contents: str) -> None:
    """Writes a whole text file."""
    with replacing(path, where) as file:
        file.write(contents.encode())


def append(path: str, where: str, contents: str) -> None:
    """Adds to the end of a regular file."""
    try:
        with open(regular(path, where), "a", encoding="utf-8") as file:
            file.write(contents)
    except OSError as error:
        raise refusal(path, where, error) from None


def lock(path: str, where: str) -> BinaryIO:
    """Opens a lock file beside the path, so that two runs do not write to one file. The lock ends with the process."""
    regular(checked(path, where), where)
    try:
        found = open(f"{path}.lock", "wb")  # noqa: SIM115 - held until the process ends
    except OSError as error:
        raise refusal(path, where, error) from None
    try:
        _take(found)
    except OSError:
        found.close()
        raise InputError(
            where, "another run writes to this file", "one run per file is accepted", "Choose another file."
        ) from None
    return found


def _take(file: BinaryIO) -> None:
    """Locks an open file; raises OSError if another process or another handle holds it."""
    if sys.platform == "win32":
        import msvcrt

        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def unlock(held: BinaryIO) -> None:
    """Lets other runs write to the path again. Windows keeps the lock file until the last handle is closed."""
    with suppress(OSError):
        os.unlink(held.name)
    held.close()
    if sys.platform == "win32":
        with suppress(OSError):
            os.unlink(held.name)


def refusal(path: str, where: str, error: OSError) -> InputError:
    """Returns the error for a path that cannot be written."""
    found = f"{shown(path, LONGEST)} cannot be written ({error.strerror or error})"
    return InputError(where, found, ACCEPTED, "Choose another path.")


def _streamed(path: str, where: str) -> bool:
    """Returns whether the path is a character device or a pipe; raises InputError if it is neither that nor a file."""
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return False
    except (OSError, ValueError) as error:
        raise refusal(path, where, error if isinstance(error, OSError) else OSError(0, str(error))) from None
    if not (stat.S_ISREG(mode) or stat.S_ISCHR(mode) or stat.S_ISFIFO(mode)):
        raise InputError(
            where, f"{shown(path, LONGEST)} is not a regular file", "a file, a terminal or a pipe is accepted",
            "Choose another path.",
        )  # fmt: skip
    return not stat.S_ISREG(mode)


def _like(file: BinaryIO, target: str) -> None:
    """Gives the new file the owner and the mode of the file that it replaces."""
    try:
        before = os.stat(target)
    except FileNotFoundError:
        return
    if hasattr(os, "fchown"):
        with suppress(PermissionError):
            os.fchown(file.fileno(), before.st_uid, before.st_gid)
    os.chmod(file.fileno() if os.chmod in os.supports_fd else file.name, stat.S_IMODE(before.st_mode))
