"""Output files: the path is checked before any work is done, and a file is written completely or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import BinaryIO

from perfmodel.errors import InputError, shown

LONGEST = 300  # characters of a path in a message


def checked(path: str, where: str, endings: Sequence[str], what: str) -> str:
    """Returns the path if ``what`` can be written to it in the format of its ending; raises InputError otherwise."""
    *first, last = endings
    accepted = f"a file name that ends in {', '.join(first)} or {last} is accepted"
    ending = os.path.splitext(path)[1].lower()
    if os.path.isdir(path):
        raise InputError(where, f"{shown(path, LONGEST)} is a folder", accepted, "Name a file in the folder.")
    if ending not in endings:
        unsaid = f"{shown(path, LONGEST)} has no ending that names a format"
        raise InputError(
            where, f"{shown(ending)} is not a format of {what}" if ending else unsaid, accepted, "Change the ending."
        )
    folder = os.path.dirname(path) or "."
    if not os.path.isdir(folder):
        raise InputError(
            where, f"there is no folder {shown(folder, LONGEST)}", "an existing folder is accepted", "Create it first."
        )
    return path


@contextmanager
def replacing(path: str, where: str) -> Iterator[BinaryIO]:
    """Opens a temporary file that replaces the path on success and is removed on failure."""
    path = os.path.realpath(path)
    beside = os.path.join(os.path.dirname(path), f".{os.path.basename(path)}.{os.getpid()}.part")
    try:
        with open(beside, "wb") as file:
            yield file
        os.replace(beside, path)
    except OSError as error:
        raise InputError(
            where,
            f"{shown(path, LONGEST)} cannot be written ({error.strerror or error})",
            "a file in a writable folder with enough free space is accepted",
            "Choose another path.",
        ) from None
    finally:
        with suppress(OSError):
            os.unlink(beside)
