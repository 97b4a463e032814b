"""Runs random inputs through every command in this process, and reports each class of fault with one input.

python benchmarks/fuzz.py N [--seed SEED] [--only COMMAND]

A fault is a traceback, more than 5 s of processor time, NaN or Infinity in an answer, a control character in the
output, a partial file, or a count that is negative or not whole. The exit code is 1 if there is any.
``tests/test_fuzz.py`` runs a short version.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import tempfile
import time
from collections import Counter
from itertools import islice
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

import fuzzing


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("number", type=int, metavar="N", help="number of inputs")
    parser.add_argument("--seed", type=int, default=0, help="inputs of one seed are the same in every run")
    parser.add_argument("--only", metavar="COMMAND", help="run the inputs of one command")
    asked = parser.parse_args()
    os.environ["XDG_DATA_HOME"] = tempfile.mkdtemp(prefix="perfmodel-fuzz-")  # no file of this user is read
    faults: Counter[fuzzing.Fault] = Counter()
    first: dict[fuzzing.Fault, fuzzing.Input] = {}
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        given = (one for one in fuzzing.inputs(asked.seed) if asked.only in (None, one.arguments[0]))
        for one in islice(given, asked.number):
            for fault in fuzzing.trial(one, Path(folder)):
                faults[fault] += 1
                first.setdefault(fault, one)
    for fault, number in faults.most_common():
        print(f"{number:6} {fault.kind}: {ascii(fault.what)[1:-1]}")
        print(f"       {ascii(' '.join(first[fault].arguments))[1:-1]}")
        for name, contents in first[fault].files:
            path = Path(tempfile.gettempdir()) / f"fuzz-{list(first).index(fault)}-{name}"
            path.write_bytes(contents)
            print(f"       {path}")
    took_s = time.perf_counter() - begun
    memory_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    print(json.dumps({"inputs": asked.number, "faults": sum(faults.values()), "classes": len(faults),
                      "seconds": round(took_s, 1), "memory_mb": round(memory_mb)}))  # fmt: skip
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
