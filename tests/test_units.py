"""Sizes, quantities and expressions: conversion from text to numbers and back."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from many import for_each

from perfmodel.errors import InputError
from perfmodel.expression import Expression
from perfmodel.units import (
    ITEM_BYTES,
    LARGEST_SIZE,
    checked_size,
    quantity_from_text,
    scaled,
    significant,
    size_from_text,
)


@for_each(
    ("text", "value"),
    [
        ("8192", 8192),
        ("8k", 8000),  # powers of 1000
        ("8Ki", 8192),  # powers of 1024
        ("1M", 1_000_000),
        ("1Mi", 1_048_576),
        ("2G", 2_000_000_000),
        ("1Gi", 1_073_741_824),
        ("1T", 10**12),
        ("0.5k", 500),
        ("1.5Ki", 1536),
        ("1e6", 1_000_000),
        ("1.5E3", 1500),
        ("1_000", 1000),
        ("  12 ", 12),
        ("+7", 7),
        ("1e15", LARGEST_SIZE),
        ("999999999999999", 999_999_999_999_999),
    ],
)
def test_a_size(text, value):
    found = size_from_text(text, "here")
    assert found == value
    assert type(found) is int


@for_each(
    ("text", "found"),
    [
        ("0", "0 is out of range"),
        ("-1", "-1 is out of range"),
        ("1e15k", "out of range"),
        ("1000000000000001", "1000000000000001 is out of range"),
        ("1.5", "'1.5' is not a whole number"),
        ("1.0001k", "'1.0001k' is not a whole number"),
        ("1e-1", "'1e-1' is not a whole number"),
        ("8K", "'8K' is not a size"),
        ("8ki", "'8ki' is not a size"),
        ("8 kB", "'8 kB' is not a size"),
        ("", "'' is not a size"),
        ("ten", "'ten' is not a size"),
        ("1,000", "'1,000' is not a size"),
        ("0x10", "'0x10' is not a size"),
        ("nan", "'nan' is not a size"),
        ("1e99999", "'1e99999' is not a size"),
        ("9" * 5000, "is not a size"),
        ("\u0661", "is not a size"),  # a digit, but not one that a size is written with
    ],
)
def test_what_is_no_size(text, found):
    with pytest.raises(InputError) as caught:
        size_from_text(text, "here")
    assert str(caught.value).startswith("here: ")
    assert found in caught.value.found
    assert "8k (8000), 8Ki (8192)" in caught.value.accepted


@for_each("value", [True, 1.0, "1", None, 0, -1, LARGEST_SIZE + 1, 10**30])
def test_a_size_is_an_int_in_range(value):
    with pytest.raises(InputError, match=r"is not a whole number|is out of range"):
        checked_size(value, "here")


def test_a_size_of_more_digits_than_python_prints_is_refused():
    with pytest.raises(InputError, match="a number of thousands of digits is out of range"):
        checked_size(10**5000, "here")


@given(st.integers(1, LARGEST_SIZE))
@settings(max_examples=50)
def test_every_whole_number_reads_as_itself(value):
    assert size_from_text(str(value), "here") == value
    assert size_from_text(f"{value:_}", "here") == value


@for_each(
    ("text", "unit", "value"),
    [
        ("1555 GB/s", "B/s", 1555e9),
        ("3.35 TB/s", "B/s", 3.35e12),
        ("2 TiB/s", "B/s", 2 * 2**40),
        ("80 GB", "B", 80e9),
        ("40 MiB", "B", 41_943_040),
        ("80GB", "B", 80e9),
        ("312 TFLOP/s", "FLOP/s", 312e12),
        ("624 TOP/s", "OP/s", 624e12),
        ("1410 MHz", "Hz", 1.41e9),
        ("400 W", "W", 400),
        ("5120 bit", "bit", 5120),
        ("1e-3 kB", "B", 1),
    ],
)
def test_a_quantity(text, unit, value):
    assert quantity_from_text(text, unit, "here") == pytest.approx(value, rel=1e-15)


@for_each(
    ("text", "unit"),
    [
        ("1555", "B/s"),
        ("1555 GB", "B/s"),
        ("1555 Gb/s", "B/s"),
        ("1555 gB/s", "B/s"),
        ("1555 GFLOP/s", "B/s"),
        ("GB/s", "B/s"),
        ("-1 GB/s", "B/s"),
        ("0 GB/s", "B/s"),
        ("1e400 B/s", "B/s"),
        ("1e-400 B/s", "B/s"),
        ("nan GB/s", "B/s"),
        ("1 GB/s 2", "B/s"),
        ("", "B"),
        (80e9, "B"),
        (None, "B"),
        ("9" * 100 + " B", "B"),
    ],
)
def test_what_is_no_quantity_of_that_unit(text, unit):
    with pytest.raises(InputError, match=f"a quantity in {unit} is accepted"):
        quantity_from_text(text, unit, "here")


@for_each(
    ("value", "digits", "text"),
    [
        (0, 5, "0"),
        (312, 4, "312.0"),
        (2.039, 4, "2.039"),
        (153.0161, 4, "153.0"),
        (0.00012345, 3, "0.000123"),
        (99999.6, 5, "100,000"),
        (123456, 3, "123,456"),  # a whole number keeps its digits
        (-1.5, 3, "-1.50"),
        (1.5e-7, 3, "1.50e-07"),
        (2e15, 3, "2.00e+15"),
        (9.9999, 3, "10.00"),
        (0.99994, 5, "0.99994"),
    ],
)
def test_significant_digits(value, digits, text):
    assert significant(value, digits) == text


@for_each(
    ("value", "unit", "digits", "text"),
    [
        (312e12, "FLOP/s", 4, "312.0 TFLOP/s"),
        (33_562_624, "B", 4, "33.56 MB"),
        (110.2e-6, "s", 4, "110.2 µs"),
        (12.05e-9, "s", 4, "12.05 ns"),
        (1.5, "s", 2, "1.5 s"),
        (999, "", 5, "999"),
        (1000, "", 3, "1.00 k"),
        (999_999_999, "B", 4, "1.000 GB"),  # rounds up into the next prefix, never 1000 MB
        (0, "B", 4, "0 B"),
        (0, "", 4, "0"),
        (3e-13, "s", 2, "0.00030 ns"),
        (5e21, "FLOP", 3, "5,000 EFLOP"),
    ],
)
def test_scaled_with_a_prefix(value, unit, digits, text):
    assert scaled(value, unit, digits) == text


def test_item_sizes():
    assert ITEM_BYTES == {
        "fp64": 8,
        "fp32": 4,
        "tf32": 4,
        "fp16": 2,
        "bf16": 2,
        "fp8": 1,
        "int8": 1,
        "fp4": 0.5,
        "int4": 0.5,
    }


# --- expressions

AT = {"B": 2, "N": 10, "D": 12, "H": 4, "S": 3}


@for_each(
    ("text", "value"),
    [
        ("B*N", 20),
        ("D/H", 3),
        ("D / H", 3),
        ("N//S", 3),
        ("N % S", 1),
        ("(B + N) * S - 1", 35),
        ("B + N * S", 32),
        ("4*D", 48),
        ("D/H/S", 1),
        ("D/(H/B)", 6),
        ("7", 7),
        ("N <= S", False),
        ("S < N", True),
        ("N % 2 == 0", True),
        ("N != N", False),
        ("B*N >= 20", True),
        ("B > N", False),
        ("1000000*1000000*1000000*N", 10**19),
        ("min(N, S)", 3),
        ("max(N, S) * B", 20),
        ("max(S - N, 1)", 1),
    ],
)
def test_an_expression(text, value):
    found = Expression(text, "here", condition=True)(AT)
    assert found == value
    assert type(found) is type(value)


def test_an_expression_names_what_it_needs():
    assert Expression("(B + N) * S - B", "here").names == {"B", "N", "S"}
    assert Expression("12", "here").names == frozenset()


@pytest.mark.parametrize("text", ["N/S", "N/D", "B*S/H", "1/2"])
def test_a_division_that_does_not_come_out_whole_is_refused(text):
    with pytest.raises(InputError, match=r"here: .* which does not divide; '/' between sizes must come out whole"):
        Expression(text, "here")(AT)


@pytest.mark.parametrize("text", ["N/0", "N//0", "N%0", "N/(B-B)", "N//(S-3)"])
def test_a_division_by_zero_is_refused(text):
    with pytest.raises(InputError, match="divides by zero"):
        Expression(text, "here")(AT)


def test_a_name_without_a_value_is_refused():
    with pytest.raises(InputError, match=r"here: 'Q' in 'Q\*2' has no value; .* Known: B, D, H, N, S\."):
        Expression("Q*2", "here")(AT)


@for_each("text", [
        "", " ", "N+", "(N", "N)", "N N", "2**3", "N**2", "-N", "+N", "~N", "not N", "N and S", "N if S else B", "[N]", "(N,)",
        "{N}", "N[0]", "N.real", "f(N)", "abs(N)", "min(N)", "min(N, S, D)",
        "min(N, b=S)", "pow(N, S)", "N.min(S, D)", "min(*N)", "__import__('os')", "lambda: N", "N:=3", "'N'", "1.5", "1e3", "1j", "True",
        "None", "N < S < D", "N is S", "N in S", "N @ S", "N << 2", "N | S", "N; S", "N\nS", "N = 3", "*N", "await N",
        "10000000000000000", "N" + "+N" * 200, "(" * 300 + "N" + ")" * 300, "N\0", "#", "N # comment\n", "…", "0777",
    ])  # fmt: skip
def test_what_is_no_expression_of_sizes(text):
    with pytest.raises(InputError, match="is not an expression of sizes; an expression of sizes is accepted"):
        Expression(text, "here")


@given(st.integers(1, 10**6), st.integers(1, 10**6), st.integers(1, 10**6))
@settings(max_examples=50)
def test_expressions_are_exact(a, b, c):
    at = {"N": a, "S": b, "D": c}
    assert Expression("N*S*D/S/D", "here")(at) == a
    assert Expression("N // S * S + N % S", "here")(at) == a
    assert Expression("(N + S) - S", "here")(at) == a


@for_each(
    ("text", "action"),
    [
        ("8K", "Write 8k (8000) or 8Ki (8192)."),
        ("8KI", "Write 8Ki (8192)."),
        ("1.5m", "Write 1.5M (1500000) or 1.5Mi (1572864)."),
        ("0.1K", "Write 0.1k (100)."),  # 0.1 x 1024 is not a whole number
        ("5p", ""),  # both are larger than a size may be
        ("8Kb", ""),
    ],
)
def test_a_prefix_in_other_letters_is_named_with_its_values(text, action):
    with pytest.raises(InputError) as caught:
        size_from_text(text, "--set N")
    assert caught.value.action == action
