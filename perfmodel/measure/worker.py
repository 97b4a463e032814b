"""The process that measures: case lines come on standard input, one record a line goes out; so does a probe's for ``PROBE``.

It stands apart so that a case that hangs or breaks the card's context ends this process and not the run.
"""

from __future__ import annotations

import json
import os
import sys

from perfmodel.errors import one_line
from perfmodel.measure.runner import PROBE


def main(device_name: str) -> None:
    """Reads until the input ends; the first line out is the environment."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print must not stand between the records
    from perfmodel.measure.bench import Device

    try:
        device = Device(device_name)
    except Exception as error:  # told to the parent, which knows what to say
        print(json.dumps({"failed": one_line(f"{type(error).__name__}: {error}")}), file=answers, flush=True)
        return
    print(json.dumps(device.line), file=answers, flush=True)
    for text in sys.stdin:
        line = json.loads(text)
        print(json.dumps(device.probe() if line == PROBE else device.measure(line)), file=answers, flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
