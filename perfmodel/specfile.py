"""Strict YAML: unknown and duplicate keys are errors, and every scalar is text until a reader converts it.

YAML's type rules are not used: they read ``1e12`` as text and ``yes`` as true, and keep the last of two equal keys.
Aliases, tags, deep nesting and large files are refused early. Every message names the line.
"""

from __future__ import annotations

import os.path
import re
from collections.abc import Iterator
from itertools import count
from typing import BinaryIO, NamedTuple

import yaml

from perfmodel.errors import InputError, did_you_mean, printable, shown
from perfmodel.units import quantity_from_text, size_from_text

LARGEST_FILE_BYTE = 1_000_000  # also the largest line of a file that is read line by line
MOST_LINES = 1_000_000
DEEPEST = 12
TOO_DEEP = f"nesting deeper than {DEEPEST} levels"

_Loader: type = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
# A bracket, or text in which brackets have no meaning: quoted text or a comment.
_BRACKETS = re.compile(r"""'[^']*'?|"(?:[^"\\]|\\.)*"?|(?<!\S)\#.*|(?P<open>[\[{])|(?P<close>[\]}])""")


class Place(NamedTuple):
    """File, line and key path."""

    file: str
    line: int
    path: str = ""

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" + (f": {self.path}" if self.path else "")


class Scalar(NamedTuple):
    """Text and its place."""

    text: str
    place: Place


class Sequence(NamedTuple):
    """A list and its place."""

    items: list[Node]
    place: Place

    def scalars(self) -> list[Scalar]:
        return [scalar(item) for item in self.items]

    def mappings(self) -> list[Mapping]:
        return [mapping(item) for item in self.items]


class Mapping:
    """Keys in their order. Records which keys were read, so that ``finish`` can report the others."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self._nodes: dict[str, Node] = {}
        self._asked: set[str] = set()

    def __contains__(self, key: str) -> bool:
        self._asked.add(key)
        return key in self._nodes

    def __iter__(self) -> Iterator[str]:
        return iter(self._nodes)

    def put(self, key: Scalar, node: Node) -> None:
        if key.text in self._nodes:
            raise InputError(
                str(key.place), f"the key '{key.text}' is repeated (first on line {self._nodes[key.text].place.line})",
                "one value per key is accepted", "Remove one of the two.",
            )  # fmt: skip
        self._nodes[key.text] = node

    def node(self, key: str) -> Node:
        self._asked.add(key)
        if key not in self._nodes:
            raise InputError(str(self.place), f"'{key}' is missing", f"'{key}' is required here", f"Add '{key}: …'.")
        return self._nodes[key]

    def place_of(self, key: str) -> str:
        return str(self.node(key).place)

    def mapping(self, key: str) -> Mapping:
        return mapping(self.node(key))

    def sequence(self, key: str) -> Sequence:
        node = self.node(key)
        if not isinstance(node, Sequence):
            raise InputError(str(node.place), f"{_kind(node)} was found", "a list is accepted", "Write it as [a, b].")
        return node

    def scalar(self, key: str) -> Scalar:
        return scalar(self.node(key))

    def text(self, key: str, default: str | None = None) -> str:
        if default is not None and key not in self:
            return default
        return self.scalar(key).text

    def texts(self, key: str) -> tuple[str, ...]:
        """Returns a list of texts, empty if the key is absent."""
        return tuple(item.text for item in self.sequence(key).scalars()) if key in self else ()

    def size(self, key: str) -> int:
        found = self.scalar(key)
        return size_from_text(found.text, str(found.place))

    def quantity(self, key: str, unit: str) -> float:
        found = self.scalar(key)
        return quantity_from_text(found.text, unit, str(found.place))

    def choice(self, key: str, choices: tuple[str, ...], default: str | None = None) -> str:
        if default is not None and key not in self:
            return default
        found = self.scalar(key)
        if found.text not in choices:
            raise InputError(
                str(found.place), f"{shown(found.text)} is not known", f"one of {', '.join(choices)} is accepted",
                did_you_mean(found.text, choices),
            )  # fmt: skip
        return found.text

    def finish(self) -> None:
        """Raises an error for a key that was not read."""
        for key, node in self._nodes.items():
            if key not in self._asked:
                raise InputError(
                    str(node.place), f"'{key}' is not a key here", f"the keys are {', '.join(sorted(self._asked))}",
                    did_you_mean(key, self._asked) if len(self._asked) > 1 else "Remove it.",
                )  # fmt: skip


Node = Scalar | Sequence | Mapping


def mapping(node: Node) -> Mapping:
    """Returns the node if it is a mapping."""
    if not isinstance(node, Mapping):
        raise InputError(
            str(node.place), f"{_kind(node)} was found", "a mapping is accepted", "Write it as 'key: value' lines."
        )
    return node


def scalar(node: Node) -> Scalar:
    """Returns the node if it is a single value."""
    if not isinstance(node, Scalar):
        raise InputError(str(node.place), f"{_kind(node)} was found", "a single value is accepted", "Write one value.")
    if not node.text.strip():
        raise InputError(str(node.place), "the value is empty", "a value is required", "Add one, or remove the key.")
    return node


def _kind(node: Node) -> str:
    if isinstance(node, Scalar):
        return f"the single value {shown(node.text)}" if node.text else "nothing"
    return "a list" if isinstance(node, Sequence) else "a mapping"


def read_text(path: str) -> str:
    """Returns the text of a file, or raises an error that says why it cannot be read."""
    try:
        if os.path.isdir(path):
            raise InputError(path, "it is a folder", "a file is accepted", "Name a file in the folder.")
        with open(path, "rb") as file:
            found = file.read(LARGEST_FILE_BYTE + 1)
    except FileNotFoundError:
        raise InputError(path, "there is no such file", "an existing file is accepted", "Check the path.") from None
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from None
    if len(found) > LARGEST_FILE_BYTE:
        raise InputError(path, "the file is larger than 1 MB", "a smaller file is accepted", "Check the path.")
    try:
        return found.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(
            path, "the file is not UTF-8 text", "UTF-8 text is accepted", "Convert it, or check the path."
        ) from None


def _unreadable(path: str, error: OSError | ValueError) -> InputError:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return InputError(path, f"it cannot be read ({reason})", "a readable file is accepted", "Check its permissions.")


def load(path: str) -> Mapping:
    """Returns the contents of a file as a mapping."""
    return parse(read_text(path), path)


def parse(text: str, file: str) -> Mapping:
    """Parses text as a mapping. Uses parser events and an explicit stack, so deep nesting causes no recursion."""
    root = _parsed(text, file)
    if root is None:
        raise InputError(file, "the file is empty", "a mapping of keys is accepted", "Write 'key: value' lines.")
    return mapping(root)


def _parsed(text: str, file: str) -> Node | None:
    root: Node | None = None
    stack: list[tuple[Mapping | Sequence, Scalar | None]] = []
    read = 0  # characters before the end of the last event
    try:
        for event in yaml.parse(text, Loader=_Loader):
            read = event.end_mark.index if event.end_mark else read
            place = Place(file, event.start_mark.line + 1 if event.start_mark else 1, _path(stack))
            match event:
                case yaml.MappingStartEvent() | yaml.SequenceStartEvent():
                    _check_plain(event, place)
                    _refuse(len(stack) >= DEEPEST, place, TOO_DEEP)
                    new: Mapping | Sequence = (
                        Mapping(place) if isinstance(event, yaml.MappingStartEvent) else Sequence([], place)
                    )
                    _refuse(_awaits_key(stack), place, "a list or a mapping as a key")
                    stack.append((new, None))
                case yaml.MappingEndEvent() | yaml.SequenceEndEvent():
                    done, _ = stack.pop()
                    root = _placed(stack, done, root)
                case yaml.ScalarEvent():
                    _check_plain(event, place)
                    if _awaits_key(stack):
                        stack[-1] = (stack[-1][0], Scalar(printable(event.value, "\n"), place))
                    else:
                        root = _placed(stack, Scalar(printable(event.value, "\n"), place), root)
                case yaml.AliasEvent():
                    _refuse(True, place, "an alias (*)")
                case yaml.DocumentStartEvent():
                    _refuse(root is not None, place, "a second document (---)")
    except yaml.YAMLError as error:
        raise _refusal(error, text, read, len(stack), Place(file, 1, _path(stack))) from None
    return root


def _check_plain(event: yaml.NodeEvent, place: Place) -> None:
    if event.anchor:
        raise _not_plain(place, "an anchor (&)")
    tag = getattr(event, "tag", None)
    if tag is not None:
        raise _not_plain(place, f"the tag {shown(tag)}")


def _path(stack: list[tuple[Mapping | Sequence, Scalar | None]]) -> str:
    return ".".join(key.text for _, key in stack if key is not None)


def _refusal(error: yaml.YAMLError, text: str, read: int, depth: int, place: Place) -> InputError:
    """Returns the error for text that the YAML library refuses, independent of the library's wording and limits.

    The scanner reads up to 1024 characters ahead of its events, so the library's own nesting limit may apply before
    ``DEEPEST`` does. The brackets between the last event and the error decide which message is shown. The text is
    refused in either case.
    """
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    for found in _BRACKETS.finditer(text, read, mark.index + 1 if mark else len(text)):
        depth += bool(found["open"]) - bool(found["close"])
        if depth > DEEPEST:
            return _not_plain(place._replace(line=text.count("\n", 0, found.start()) + 1), TOO_DEEP)
    line = mark.line + 1 if mark else 1
    lines = text.splitlines()
    indent = re.match(r"\s*", lines[line - 1])[0] if line <= len(lines) else ""  # type: ignore[index]
    what = "the indentation has a tab" if "\t" in indent else "the text is not valid YAML"
    return InputError(
        f"{place.file}:{line}",
        what + (f" in column {mark.column + 1}" if mark else ""),
        "valid YAML, indented by spaces, is accepted",
        "Correct this line or the one before it.",
    )


def _refuse(found: bool, place: Place, what: str) -> None:
    if found:
        raise _not_plain(place, what)


def _not_plain(place: Place, what: str) -> InputError:
    return InputError(str(place), f"{what} was found", "plain keys, values and lists are accepted", "Write it out.")


def _awaits_key(stack: list[tuple[Mapping | Sequence, Scalar | None]]) -> bool:
    return bool(stack) and isinstance(stack[-1][0], Mapping) and stack[-1][1] is None


def _placed(stack: list[tuple[Mapping | Sequence, Scalar | None]], node: Node, root: Node | None) -> Node | None:
    """Adds a finished node to the open node around it, or returns it as the root."""
    if not stack:
        return node
    around, key = stack[-1]
    if isinstance(around, Mapping):
        assert key is not None
        around.put(key, node)
        stack[-1] = (around, None)
    else:
        around.items.append(node)
    return root


def read_lines(path: str) -> Iterator[str]:
    """Yields the lines of a file, or of standard input for ``-``."""
    if path == "-":
        import sys

        yield from _decoded(sys.stdin.buffer, "standard input")
        return
    try:
        with open(path, "rb") as file:
            yield from _decoded(file, path)
    except IsADirectoryError:
        raise InputError(path, "it is a folder", "a file is accepted", "Name a file in the folder.") from None
    except FileNotFoundError:
        raise InputError(path, "there is no such file", "an existing file is accepted", "Check the path.") from None
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from None


def _decoded(file: BinaryIO, where: str) -> Iterator[str]:
    """Decodes lines. A byte order mark is accepted before the first. The length of a line and the number of lines are
    limited, because a device may have no end.
    """
    for number in count(1):
        line = file.readline(LARGEST_FILE_BYTE + 1)
        if not line:
            return
        if len(line) > LARGEST_FILE_BYTE:
            raise InputError(
                f"{where}:{number}", "the line is longer than 1 MB", "shorter lines are accepted", "Check the path."
            )
        if number > MOST_LINES:
            raise InputError(
                where, f"it has more than {MOST_LINES:,} lines", "a file with fewer lines is accepted", "Split it."
            )
        try:
            yield line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError:
            raise InputError(
                f"{where}:{number}",
                "the line is not UTF-8 text",
                "UTF-8 text is accepted",
                "Convert it, or check the path.",
            ) from None
