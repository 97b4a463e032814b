"""The site: chapters that Sphinx executes, the pages of the reference, and the functions of the library.

``make -C docs html`` builds it without a network. A command that fails and a warning stop the build.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent
sys.path[:0] = [str(HERE / "site"), str(ROOT)]

import perfmodel  # noqa: E402 - the checkout, not an installed copy

# Kernels of the chapters: the checkout, a startup file, and no readings of this machine, which would change the times.
_own = Path(tempfile.mkdtemp(prefix="perfmodel-book-"))
_startup = _own / "ipython" / "profile_default" / "startup"
_startup.mkdir(parents=True)
shutil.copy(HERE / "site" / "startup.py", _startup / "00-book.py")
os.environ |= {
    "IPYTHONDIR": str(_own / "ipython"),
    "MPLCONFIGDIR": str(_own),
    "PERFMODEL_BOOK_ROOT": str(ROOT),
    "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))),
    "XDG_DATA_HOME": str(_own),
}

project = "perfmodel"
copyright = "the perfmodel authors"  # noqa: A001 - the name is Sphinx's
version = release = perfmodel.__version__
html_title = f"perfmodel {release}"

extensions = ["myst_nb", "sphinx.ext.autodoc", "mathml", "outside", "lexers"]
exclude_patterns = ["_build", "README.md", "site"]
html_theme = "furo"
html_static_path = ["site/static"]
html_extra_path = ["schema", "../llms.txt"]
html_css_files = ["book.css"]
html_show_sphinx = False
html_copy_source = False
html_show_sourcelink = False

myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 4
nb_execution_mode = "force"  # an output is never older than the code
nb_execution_in_temp = True
nb_execution_raise_on_error = True
nb_execution_timeout = 120
nb_merge_streams = True
nb_mime_priority_overrides = [("html", "text/latex", 0)]

autodoc_typehints = "none"  # the signature has them
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
maximum_signature_line_length = 80
