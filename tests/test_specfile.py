"""The strict YAML reader: all values are text, unknown and duplicate keys are errors, and every error has a place."""

from __future__ import annotations

import itertools

import pytest
import yaml
from many import for_each

from perfmodel import specfile
from perfmodel.errors import InputError
from perfmodel.specfile import LARGEST_FILE_BYTE, load, parse, read_lines


def page(text):
    return parse(text, "x.yaml")


def refused(function, *arguments):
    with pytest.raises(InputError) as caught:
        function(*arguments)
    return str(caught.value)


@for_each("text", ["1e12", "yes", "NO", "~", "null", "0x10", "1:30", "2020-01-01", "0123", "1_000", ".5", "ö"])
def test_a_value_is_the_text_that_stands_there(text):
    assert page(f"a: {text}").text("a") == text


@for_each(
    ("written", "text"),
    [
        ("'1'", "1"),
        ('"a\\tb"', r"a\tb"),  # a tab is shown, not sent to the terminal
        ("|\n  a\n  b\n", "a\nb\n"),
        (">\n  a\n  b\n", "a b\n"),
        ("a # b", "a"),
        ("'#'", "#"),
    ],
)
def test_quotes_and_blocks_are_yamls(written, text):
    assert page(f"a: {written}").text("a") == text


def test_values_of_each_kind():
    found = page("a: [x, y]\nb: {c: 8Ki}\nd: 2 GB/s\ne: fp16\nf: []\n")
    assert found.texts("a") == ("x", "y")
    assert found.texts("f") == found.texts("none") == ()
    assert found.mapping("b").size("c") == 8192
    assert found.quantity("d", "B/s") == 2e9
    assert found.choice("e", ("fp16", "bf16")) == "fp16"
    assert found.choice("none", ("fp16", "bf16"), "bf16") == "bf16"
    assert found.text("none", "") == ""
    found.finish()


def test_keys_keep_their_order():
    assert list(page("b: 1\na: 2\nc: 3\n")) == ["b", "a", "c"]


def test_a_place_is_file_line_and_path():
    found = page("a: 1\nb:\n  - c: 2\n  - c:\n      d: x\n")
    inner = found.sequence("b").mappings()[1].mapping("c")
    assert inner.place_of("d") == "x.yaml:5: b.c.d"
    assert refused(inner.size, "d").startswith("x.yaml:5: b.c.d: 'x' is not a size; ")


def test_a_key_that_nobody_asked_for_is_refused():
    found = page("sizes: 1\nsise: 2\n")
    found.text("sizes")
    "step" in found  # noqa: B015 - an optional key also counts as read
    assert refused(found.finish) == (
        "x.yaml:2: sise: 'sise' is not a key here; the keys are sizes, step. Did you mean 'sizes'?"
    )


@pytest.mark.parametrize("text", ["a: 1\nb: 2\na: 3\n", "{a: 1, b: 2, a: 3}", "{'a': 1,\n a: 2}"])
def test_a_key_may_stand_once(text):
    assert (
        "the key 'a' is repeated (first on line 1); one value per key is accepted. Remove one of the two."
        in refused(page, text)
    )


def test_a_key_may_stand_once_at_any_depth():
    assert refused(page, "a:\n - b: {c: 1,\n       c: 2}\n").startswith(
        "x.yaml:3: a.b: the key 'c' is repeated (first on line 2)"
    )


@for_each(
    ("text", "what"),
    [
        ("a: &x 1", "an anchor (&)"),
        ("a: &x [1]", "an anchor (&)"),
        ("&x a: 1", "an anchor (&)"),
        ("a: *x", "an alias (*)"),
        ("a: !!int 3", "the tag"),
        ("a: !own 3", "the tag"),
        ("a: !!python/object:os.system {}", "the tag"),
        ("!!map {a: 1}", "the tag"),
        ("? {a: 1}\n: 2", "a list or a mapping as a key"),
        ("? [1]\n: 2", "a list or a mapping as a key"),
        ("a: 1\n---\nb: 2", "a second document (---)"),
        ("a: " + "[" * 13 + "]" * 13, "nesting deeper than 12 levels"),
        ("a: " + "{a: " * 100_000, "nesting deeper than 12 levels"),
        ("- " * 100_000, "nesting deeper than 12 levels"),
    ],
)
def test_what_a_plain_file_does_not_need_is_refused(text, what):
    message = refused(page, text)
    assert message.startswith("x.yaml:")
    assert what in message
    assert "plain keys, values and lists are accepted" in message


class Strict:
    """A reader of events that refuses nesting after a number of events, like the limit of a library."""

    def __init__(self, limit, events):
        self.limit, self.events = limit, events

    def __call__(self, text, Loader):
        yield from itertools.islice(parse_events(text, Loader), self.events)
        place = next((i for i in range(len(text)) if text.count("[", 0, i) > self.limit), None)
        if place is not None:
            mark = yaml.Mark("x", place, text.count("\n", 0, place), place, None, None)
            raise yaml.scanner.ScannerError(None, None, "whatever the library says", mark)
        yield from itertools.islice(parse_events(text, Loader), self.events, None)


parse_events = yaml.parse


@pytest.mark.parametrize(
    ("text", "events", "told"),
    [
        ("a: " + "[" * 200, 2, "x.yaml:1: nesting deeper than 12 levels was found; plain keys"),
        ("a: 'b'\nc:\n - " + "[\n" * 200, 7, "x.yaml:13: c: nesting deeper than 12 levels was found; plain keys"),
        ("a: ['" + "[" * 40 + "']]", 2, "x.yaml:1: the text is not valid YAML"),
        ("a: [ # " + "[" * 40, 2, "x.yaml:1: the text is not valid YAML"),
        ('a: ["\\"' + "[" * 40, 2, "x.yaml:1: the text is not valid YAML"),
    ],
)
def test_our_limit_of_nesting_decides_whatever_the_library_refuses_first(monkeypatch, text, events, told):
    monkeypatch.setattr(yaml, "parse", Strict(30, events))
    assert refused(page, text).startswith(told)


@pytest.mark.parametrize("loader", [yaml.SafeLoader, getattr(yaml, "CSafeLoader", yaml.SafeLoader)])
@pytest.mark.parametrize("text", ["a: " + "[" * 5000, "{b: [" * 600, "a:\n" + " [\n" * 2000])
def test_the_limit_is_the_same_with_either_reader_of_yaml(monkeypatch, loader, text):
    monkeypatch.setattr(specfile, "_Loader", loader)
    assert "nesting deeper than 12 levels was found" in refused(page, text)


def test_ten_levels_are_read():
    found = page("a: " + "{a: " * 10 + "x" + "}" * 10)
    for _ in range(10):
        found = found.mapping("a")
    assert found.text("a") == "x"


@pytest.mark.parametrize("text", ["", "\n\n", "# a\n", "---\n", "--- \n...\n"])
def test_an_empty_file_is_refused(text):
    assert "x.yaml" in refused(page, text)


@for_each(
    ("text", "line"),
    [
        ("a: [1", 1),
        ("a: 'x", 1),
        ("a: b: c", 1),
        ("a: 1\n\tb: 2", 2),
        ("a: 1\n b: 2", 2),
        ("a: @x", 1),
        ("a: `x", 1),
        ("%Z", 1),
    ],
)
def test_text_that_is_not_yaml_is_refused_near_its_line(text, line):
    message = refused(page, text)
    found = "the indentation has a tab" if "\t" in text else "the text is not valid YAML"
    assert f": {found}" in message
    assert message.endswith("; valid YAML, indented by spaces, is accepted. Correct this line or the one before it.")
    assert int(message.split(":")[1]) in (line, line + 1)


@for_each(("ask", "message"), [
        (lambda p: p.text("list"), "x.yaml:1: list: a list was found; a single value is accepted. Write one value."),
        (lambda p: p.text("map"), "x.yaml:2: map: a mapping was found; a single value is accepted. Write one value."),
        (lambda p: p.text("empty"), "x.yaml:3: empty: the value is empty; a value is required. Add one, or remove the key."),
        (lambda p: p.sequence("map"), "x.yaml:2: map: a mapping was found; a list is accepted. Write it as [a, b]."),
        (
            lambda p: p.mapping("list"),
            "x.yaml:1: list: a list was found; a mapping is accepted. Write it as 'key: value' lines.",
        ),
        (lambda p: p.mapping("empty"), "x.yaml:3: empty: nothing was found; a mapping is accepted. Write it as 'key: value' lines."),
        (lambda p: p.texts("lists"), "x.yaml:4: lists: a list was found; a single value is accepted. Write one value."),
        (lambda p: p.text("none"), "x.yaml:1: 'none' is missing; 'none' is required here. Add 'none: …'."),
        (lambda p: p.choice("word", ("fp16", "bf16")), "x.yaml:5: word: 'fp61' is not known; one of fp16, bf16 is accepted. Did you mean 'fp16'?"),
    ])  # fmt: skip
def test_a_value_of_another_kind_is_refused(ask, message):
    assert refused(ask, page("list: [1]\nmap: {a: 1}\nempty:\nlists: [[1]]\nword: fp61\n")) == message


def test_a_byte_order_mark_is_passed_over(tmp_path):
    file = tmp_path / "x.yaml"
    file.write_bytes(b"\xef\xbb\xbfa: 1\n")
    assert load(str(file)).text("a") == "1"
    assert list(read_lines(str(file))) == ["a: 1\n"]


def test_windows_line_ends_are_line_ends(tmp_path):
    file = tmp_path / "x.yaml"
    file.write_bytes(b"a: 1\r\nb: [x]\r\n")
    found = load(str(file))
    assert (found.text("a"), found.texts("b"), found.place_of("b")) == ("1", ("x",), f"{file}:2: b")


def test_a_file_of_the_largest_size_is_read_and_one_byte_more_refused(tmp_path):
    file = tmp_path / "x.yaml"
    file.write_bytes(b"a: 1\n#" + b"x" * (LARGEST_FILE_BYTE - 6))
    assert load(str(file)).text("a") == "1"
    with file.open("ab") as more:
        more.write(b"x")
    assert (
        refused(load, str(file)) == f"{file}: the file is larger than 1 MB; a smaller file is accepted. Check the path."
    )


def test_lines_of_a_file_of_any_length_are_read_one_by_one(tmp_path):
    file = tmp_path / "lines"
    file.write_text("x\n" * (LARGEST_FILE_BYTE))
    assert sum(1 for _ in read_lines(str(file))) == LARGEST_FILE_BYTE
