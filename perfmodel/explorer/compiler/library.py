"""The parts of Python that the runtime provides: builtin functions, the standard library, and methods of builtin types."""

from __future__ import annotations

import ast
import builtins
import functools
import itertools
import math
import operator
import re
from typing import Any

# Methods of Python's builtin types. The runtime has them under the same name with a dollar sign.
_METHODS_TEXT = """
append extend insert pop remove index count clear copy sort get items keys values setdefault update add discard
union issuperset issubset startswith endswith partition rpartition split join strip rstrip lstrip removesuffix
removeprefix lower upper casefold capitalize replace bit_length is_integer isdecimal isalpha isdigit
isprintable intersection difference fromkeys
"""
METHODS = frozenset(_METHODS_TEXT.split())
# A method of these types that is not above has no translation.
METHOD_OWNERS = (str, list, tuple, dict, set, frozenset, int, float)

_BUILTINS_TEXT = """
abs all any bool dict divmod enumerate filter float frozenset getattr hasattr id int isinstance iter len list
map max min next range repr reversed round set sorted str sum tuple type zip
"""
_BUILTINS = tuple(_BUILTINS_TEXT.split())

_MATH = "ceil floor sqrt log log2 log10 exp expm1 log1p gcd isfinite prod lgamma"

# Functions and classes of Python by their name in the runtime.
FUNCTIONS: dict[Any, str] = {
    **{getattr(builtins, name): f"${name}" for name in _BUILTINS},
    **{getattr(math, name): f"$math.{name}" for name in _MATH.split()},
    dict.fromkeys: "$fromkeys",
    functools.partial: "$partial",
    functools.cache: "$remembered",
    itertools.groupby: "$groupby",
    itertools.islice: "$islice",
    itertools.chain.from_iterable: "$chained",
    itertools.chain: "$chain",
    itertools.pairwise: "$pairwise",
    itertools.accumulate: "$accumulate",
    itertools.repeat: "$repeat",
    itertools.zip_longest: "$zip_longest",
    operator.add: "$add",
    operator.mul: "$mul",
    re.sub: "$substituted",
    ast.walk: "$walk",
    ast.dump: "$repr",
}

# Classes of Python that programs name without calling them.
CLASSES: dict[type, str] = {
    int: "$int", float: "$float", bool: "$bool", str: "$str", tuple: "$tuple", list: "$list", dict: "$dict", set: "$set",
    frozenset: "$set", object: "$object_", type(None): "$None", Exception: "$Exception", ValueError: "$ValueError",
    KeyError: "$KeyError", ZeroDivisionError: "$ZeroDivisionError", OverflowError: "$OverflowError",
    TypeError: "$TypeError", StopIteration: "$StopIteration", AssertionError: "$AssertionError", RuntimeError: "$RuntimeError",
}  # fmt: skip

# Decorators that are left out: those that divide arrays into paths, and those that only mark a function.
LEFT_OUT = ("by_paths", "by_points", "wraps", "staticmethod", "operation")
REMEMBERED = ("cache", "lru_cache")
