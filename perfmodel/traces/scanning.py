"""The text of a trace, event by event: a file of any length is read in pieces of a few megabytes.

Accepted: the object that torch.profiler exports, ``{..., "traceEvents": [...], ...}``, and a bare list of events, each
plain or compressed with gzip. Python's own parser reads each event.
"""

from __future__ import annotations

import codecs
import gzip
import re
import zlib
from collections.abc import Iterator
from json import JSONDecodeError, JSONDecoder
from typing import Any, BinaryIO, cast

from perfmodel.errors import InputError, shown

PIECE = 1 << 21  # bytes of text that are read at once
LONGEST = 1 << 25  # characters of one event, or of one value beside the events
MOST_BYTE = 1 << 34  # of a file's text, uncompressed
ACCEPTED = "the JSON that torch.profiler's export_chrome_trace writes is accepted, plain or compressed with gzip"
ACTION = "Export the trace again."
_GZIP = b"\x1f\x8b"
_SPACE = re.compile(r"[\s,]*")
_COLON = re.compile(r"\s*:\s*")


class Scan:
    """The events of one file, in order. ``header`` has the values beside the list of events as far as it was read."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.header: dict[str, Any] = {}
        self.count = 0
        self._text = ""
        self._at = 0
        self._ended = False
        self._read_byte = 0
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._parse = JSONDecoder().scan_once  # type: ignore[attr-defined]

    def __iter__(self) -> Iterator[dict[str, Any]]:
        try:
            with open(self.path, "rb") as file:
                self._file = _opened(file)
                yield from self._whole()
        except (OSError, EOFError, zlib.error, ValueError) as error:
            raise _unreadable(self.path, error) from None

    def _whole(self) -> Iterator[dict[str, Any]]:
        first = self._next()
        self._at += 1
        if first == "[":
            yield from self._list()
            return
        if first != "{":
            raise self._refused(f"it begins with {shown(first)}" if first else "it is empty")
        found = False
        while self._next() not in ("}", ""):
            key = self._value()
            if not isinstance(key, str):
                raise self._refused(f"{shown(key)} stands in the place of a key")
            self._pass(_COLON)
            if key == "traceEvents" and self._next() == "[":
                found = True
                self._at += 1
                yield from self._list()
            else:
                self.header[key] = self._value()
        if not found:
            raise self._refused("it has no list 'traceEvents'")

    def _list(self) -> Iterator[dict[str, Any]]:
        parse, space = self._parse, _SPACE
        while True:
            try:  # the common case: the next event is in the text at hand
                text = self._text
                at = space.match(text, self._at).end()  # type: ignore[union-attr]
                event, self._at = parse(text, at)
            except (StopIteration, JSONDecodeError):
                if self._next() in ("]", ""):
                    self._at += 1
                    return
                event = self._value()
            except RecursionError:
                raise self._refused("it is nested too deeply") from None
            self.count += 1
            if type(event) is dict:
                yield event

    def _next(self) -> str:
        """Moves to the next character that is neither space nor a comma and returns it; empty at the end."""
        while True:
            self._pass(_SPACE)
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more():
                return ""

    def _pass(self, pattern: re.Pattern[str]) -> None:
        while True:
            found = pattern.match(self._text, self._at)
            end = found.end() if found else self._at
            if end < len(self._text) or not self._more():
                self._at = end
                return

    def _value(self) -> Any:
        """Parses one value. A value that the text at hand does not contain completely is read further."""
        while True:
            try:
                value, end = self._parse(self._text, self._at)
            except (StopIteration, JSONDecodeError):
                end = len(self._text)
            except RecursionError:
                raise self._refused("it is nested too deeply") from None
            if end < len(self._text):  # a number at the end of the text may go on
                self._at = end
                return value
            if len(self._text) - self._at > LONGEST:
                raise self._refused("the text is not valid JSON, or one value is longer than 32 MB")
            if not self._more():
                raise self._refused("the text is not valid JSON, or it ends early")

    def _more(self) -> bool:
        """Reads the next piece; returns whether there was one."""
        if self._ended:
            return False
        piece = self._file.read(PIECE)
        self._ended = not piece
        self._read_byte += len(piece)
        if self._read_byte > MOST_BYTE:
            raise InputError(
                self.path, f"it has more than {MOST_BYTE >> 30} GiB of text", "a shorter trace is accepted",
                "Profile fewer steps.",
            )  # fmt: skip
        self._text = self._text[self._at :] + self._decoder.decode(piece, not piece)
        self._at = 0
        return True

    def _refused(self, found: str) -> InputError:
        place = f"{self.path}: event {self.count + 1}" if self.count else self.path
        return InputError(place, found, ACCEPTED, ACTION)


def _opened(file: BinaryIO) -> BinaryIO:
    """The file's contents, uncompressed."""
    start = file.peek(2)[:2] if hasattr(file, "peek") else b""
    return cast(BinaryIO, gzip.GzipFile(fileobj=file)) if start == _GZIP else file


def _unreadable(path: str, error: Exception) -> InputError:
    if isinstance(error, EOFError):
        return InputError(path, "the compressed file ends early", ACCEPTED, "Copy or export it again.")
    if isinstance(error, (gzip.BadGzipFile, zlib.error)):
        return InputError(path, "the compressed data are damaged", ACCEPTED, "Copy or export it again.")
    if isinstance(error, FileNotFoundError):
        return InputError(path, "there is no such file", ACCEPTED, "Check the path.")
    reason = error.strerror if isinstance(error, OSError) else str(error)
    return InputError(path, f"it cannot be read ({reason or error})", ACCEPTED, "Choose another file.")
