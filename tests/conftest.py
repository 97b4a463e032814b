"""Settings for all tests. Hypothesis draws the same examples every time. No test reads or writes the user's folder.
Modules loaded at collection are excluded from garbage collection.
"""

import gc
import os
import re
import sys
import tempfile
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("repeatable", derandomize=True, database=None, deadline=None)
settings.load_profile("repeatable")

NOBODYS = tempfile.TemporaryDirectory(prefix="perfmodel-tests-")
os.environ["XDG_DATA_HOME"] = NOBODYS.name  # also applies to processes that tests start
os.environ.setdefault("OMP_NUM_THREADS", "1")  # read by torch; waiting threads would take time from the other worker
os.environ.setdefault("SYMPY_CACHE_SIZE", "50000")  # the terms of all operations; 1000 by default
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # workers and processes that tests start load compiled files
os.environ.pop("COLUMNS", None)  # set in parallel workers; tables have their width without a terminal


def pytest_collection_modifyitems(items):
    """Tests of one GPU run in one worker, one after another."""
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.xdist_group("gpu"))


# Files of long tests, which start first, so that the workers end together.
LONG = tuple(
    f"test_{name}"
    for name in ("ranks", "docs", "book", "explain", "measure", "explorer", "plans", "roofline", "sweep", "bad_input")
)
LOADS_TORCH = re.compile(r'import (torch|transformers|instantiated|pages)|"torch"|perfmodel\.capture')


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Gives a whole file to one worker, or a group of tests, so that what a file loads and prepares is made once.

    xdist would hand out the tests one by one, each with a message, and search all of them for the next. The first worker
    prefers files that need torch, so that the others load it late or never.
    """
    if config.getoption("dist") != "loadgroup":
        return None
    from xdist.scheduler import LoadGroupScheduling

    class Files(LoadGroupScheduling):
        def _split_scope(self, nodeid):
            group = super()._split_scope(nodeid)
            return group if group != nodeid else nodeid.partition("::")[0]

        def _assign_work_unit(self, node):
            first = node is self.nodes[0]

            def place(scope):
                file = next(iter(self.workqueue[scope])).partition("::")[0]
                return needs_torch(config.rootpath / file) != first, not Path(file).name.startswith(LONG)

            self.workqueue.move_to_end(min(self.workqueue, key=place), last=False)
            super()._assign_work_unit(node)

    return Files(config, log)


@cache
def needs_torch(path):
    return path.is_file() and LOADS_TORCH.search(path.read_text("utf-8")) is not None


def pytest_collection_finish():
    gc.collect()
    gc.freeze()
    gc.set_threshold(400_000, 10, 100)  # tests leave few cycles


def pytest_runtest_teardown():
    """A test may set the number of torch's threads, which is a setting of the process."""
    torch = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "get_num_threads") and torch.get_num_threads() > 1:
        torch.set_num_threads(1)


@pytest.fixture
def small_pictures(monkeypatch):
    """Pictures of few pixels, which take a fifth of the time. The page and its texts have the same size in points."""
    from perfmodel.report import picture

    monkeypatch.setattr(picture, "DPI", 50)


@pytest.fixture
def shared_folder():
    """A new folder that every user may read. Those of pytest are closed to others."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture
def without_rights(shared_folder):
    """Runs a block as a user who may read the shared folder and not write to it. Root has every right, so it acts as
    another user.
    """
    if not hasattr(os, "geteuid"):
        pytest.skip("the modes of files keep no user out")

    @contextmanager
    def dropped():
        root = os.geteuid() == 0
        shared_folder.chmod(0o555)
        if root:
            os.seteuid(65534)
        try:
            yield
        finally:
            if root:
                os.seteuid(0)
            shared_folder.chmod(0o755)

    return dropped
