"""Settings for all tests. Hypothesis draws the same examples every time. No test reads or writes the user's folder.
Modules loaded at collection are excluded from garbage collection.
"""

import gc
import os
import tempfile

import pytest
from hypothesis import settings

settings.register_profile("repeatable", derandomize=True, database=None, deadline=None)
settings.load_profile("repeatable")

NOBODYS = tempfile.TemporaryDirectory(prefix="perfmodel-tests-")
os.environ["XDG_DATA_HOME"] = NOBODYS.name  # also applies to processes that tests start
os.environ.pop("COLUMNS", None)  # set in parallel workers; tables have their width without a terminal


def pytest_collection_modifyitems(items):
    """Tests of one GPU run in one worker, one after another."""
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.xdist_group("gpu"))


def pytest_collection_finish():
    gc.collect()
    gc.freeze()
