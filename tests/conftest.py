"""Settings of all tests: hypothesis draws the same examples every time, no test reads or writes the user's own folder, and the
modules loaded at collection are kept out of garbage collection."""

import gc
import os
import tempfile

from hypothesis import settings

settings.register_profile("repeatable", derandomize=True, database=None, deadline=None)
settings.load_profile("repeatable")

NOBODYS = tempfile.TemporaryDirectory(prefix="perfmodel-tests-")
os.environ["XDG_DATA_HOME"] = NOBODYS.name  # for the processes that tests start as well


def pytest_collection_finish():
    gc.collect()
    gc.freeze()
