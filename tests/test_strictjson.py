"""The strict JSON reader: its limits, its messages, and the place of an error."""

from __future__ import annotations

import json

import pytest
from many import for_each

from perfmodel.errors import InputError
from perfmodel.strictjson import DEEPEST, MOST_DIGITS, parsed

ACCEPTED = "an object is accepted. Correct it."


def read(text):
    return parsed(text, "x.json", "an object is accepted", "Correct it.")


def nested(levels):
    return "[" * levels + "]" * levels


@for_each(
    ("text", "message"),
    [
        ("x", f"x.json: the text is not valid JSON from column 1; {ACCEPTED}"),
        ('{\n "a": 1,\n}', f"x.json:3: the text is not valid JSON from column 1; {ACCEPTED}"),
        ('{"a": 1', f"x.json: the text is not valid JSON from column 8; {ACCEPTED}"),
        ("[]", f"x.json: [] was found; {ACCEPTED}"),
        ("[" * 100_000, f"x.json: it is nested deeper than 64 levels; {ACCEPTED}"),
        (f'{{"a": {nested(DEEPEST)}}}', f"x.json: it is nested deeper than 64 levels; {ACCEPTED}"),
        (f'{{"a": {"9" * 401}}}', f"x.json: a number has 401 digits, more than 400; {ACCEPTED}"),
        ('{"a": NaN}', "x.json: the number NaN was found; JSON numbers are accepted. Write a finite number."),
        (
            '{"a": -Infinity}',
            "x.json: the number -Infinity was found; JSON numbers are accepted. Write a finite number.",
        ),
        ('{"a": 1e999}', "x.json: the number 1e999 was found; JSON numbers are accepted. Write a finite number."),
        (
            '{"a": 1, "b": {"c": 1, "c": 2}}',
            "x.json: the key 'c' is repeated; one value per key is accepted. Remove one of the two.",
        ),
    ],
)
def test_what_is_refused(text, message):
    with pytest.raises(InputError) as caught:
        read(text)
    assert str(caught.value) in (
        message,
        message.replace("3: the text is not valid JSON from column 1", "2: the text is not valid JSON from column 8"),
    )


@pytest.mark.parametrize(
    "text",
    [
        f'{{"a": {nested(DEEPEST - 1)}}}',
        json.dumps({"a": "[" * 1000 + '\\"' + "{" * 1000}),
        json.dumps({"a": [[i] for i in range(1000)]}),
        f'{{"a": {"9" * MOST_DIGITS}}}',
    ],
    ids=["the deepest", "brackets in text", "wide", "the longest number"],
)
def test_what_stays_within_the_limits_is_read(text):
    assert read(text) == json.loads(text)
