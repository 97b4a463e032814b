"""What holds for all tests: the modules they loaded stay, so that the garbage collector need not go through them."""

import gc


def pytest_collection_finish():
    gc.collect()
    gc.freeze()
