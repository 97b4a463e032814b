"""The command line in a process of its own, on a processor whose rates need not be measured.

Only the rates are given. Cases, streams and records are those of ``python -m perfmodel``.
"""

from pathlib import Path

from perfmodel.__main__ import main
from perfmodel.measure import processor

FILE = Path(__file__).parent.parent / "hardware" / "epyc-7763.yaml"

if __name__ == "__main__":
    processor.hardware_file = lambda: FILE.read_text("utf-8")
    main()
