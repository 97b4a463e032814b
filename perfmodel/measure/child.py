"""Commands that start modules of this package in processes of their own.

Python puts the current folder, or the folder of a script, first in the search path of modules: a ``torch.py`` there
would run. The option ``-P`` prevents this. The package is then loaded from the path of the running one, not by a search.
"""

from __future__ import annotations

import sys
from pathlib import Path

import perfmodel

_START = """
import sys
from importlib.util import module_from_spec, spec_from_file_location
from runpy import run_module

_, path, module, *rest = sys.argv
spec = spec_from_file_location("perfmodel", path)
package = sys.modules["perfmodel"] = module_from_spec(spec)
spec.loader.exec_module(package)
sys.argv = [module, *rest]
run_module(module, run_name="__main__", alter_sys=True)
"""


def command(module: str, *arguments: str) -> list[str]:
    """Returns the command line that runs a module of this package."""
    return [sys.executable, "-P", "-c", _START, str(Path(perfmodel.__file__).resolve()), module, *arguments]
