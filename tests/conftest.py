"""Settings for all tests. Hypothesis draws the same examples every time. No test reads or writes the user's folder.
Modules loaded at collection are excluded from garbage collection.
"""

import gc
import os
import tempfile

from hypothesis import settings

settings.register_profile("repeatable", derandomize=True, database=None, deadline=None)
settings.load_profile("repeatable")

NOBODYS = tempfile.TemporaryDirectory(prefix="perfmodel-tests-")
os.environ["XDG_DATA_HOME"] = NOBODYS.name  # also applies to processes that tests start


def pytest_collection_finish():
    gc.collect()
    gc.freeze()
