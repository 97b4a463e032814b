"""The process that measures. It reads one case per line from standard input and writes one record per line.

The line ``PROBE`` requests the time of a stream instead. The process is separate so that a case that hangs, or loses
the CUDA context, does not end the run.
"""

from __future__ import annotations

import json
import os
import sys

from perfmodel.errors import one_line
from perfmodel.measure.runner import PROBE
from perfmodel.strictjson import dumped


def main(device_name: str) -> None:
    """Reads lines until the input ends. The first line of output is the environment."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # output of libraries goes to standard error, so records stay clean
    from perfmodel.measure.bench import Device

    try:
        device = Device(device_name)
    except Exception as error:  # the parent process reports it
        print(dumped({"failed": one_line(f"{type(error).__name__}: {error}")}), file=answers, flush=True)
        return
    print(dumped(device.line), file=answers, flush=True)
    for text in sys.stdin:
        line = json.loads(text)
        print(dumped(device.probe() if line == PROBE else device.measure(line)), file=answers, flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
