"""Settings of all tests: hypothesis draws the same examples every time, and the modules loaded at collection are kept out of
garbage collection."""

import gc

from hypothesis import settings

settings.register_profile("repeatable", derandomize=True, database=None, deadline=None)
settings.load_profile("repeatable")


def pytest_collection_finish():
    gc.collect()
    gc.freeze()
