"""Short tests over many values, as one item of pytest.

pytest needs about 2 ms to collect, run and report an item in parallel workers, longer than most of these tests run.
"""

from __future__ import annotations

import functools
import inspect

import pytest


def for_each(names, values):
    """Runs a test for each value, like ``pytest.mark.parametrize``, in one item. All failures are shown, each with its
    value. Fixtures are shared by all values, so the test must not change them. A function as ``values`` is called when the
    test runs.
    """
    names = [*names] if isinstance(names, tuple) else [names]

    def around(test):
        @functools.wraps(test)
        def over_all(**fixtures):
            failed, skipped = [], []
            every = [*(values() if callable(values) else values)]
            for value in every:
                given = dict(zip(names, value if len(names) > 1 else (value,), strict=True))
                try:
                    test(**fixtures, **given)
                except pytest.skip.Exception as skip:
                    skipped.append(skip)
                except Exception as error:
                    error.add_note(f"with {', '.join(f'{name} = {part!r:.300}' for name, part in given.items())}")
                    failed.append(error)
            if failed:
                raise ExceptionGroup(f"{len(failed)} of {len(every)} values", failed)
            if len(skipped) == len(every) > 0:
                raise skipped[0]

        own = inspect.signature(test)
        others = [parameter for name, parameter in own.parameters.items() if name not in names]
        over_all.__signature__ = own.replace(parameters=others)
        return over_all

    return around
