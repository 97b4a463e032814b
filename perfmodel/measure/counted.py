"""The process that Nsight Compute profiles: runs every case once, with an empty kernel as a marker before each.

L2 is flushed by reading before a case and again after it. The second flush writes back the lines that the case left
dirty, so all of its writes are counted.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from perfmodel.cases import case
from perfmodel.errors import PerfmodelError


def main(path: str) -> None:
    """Runs the case lines of a file."""
    import torch

    from perfmodel.measure.ceilings import launch, read_all
    from perfmodel.measure.workloads import build

    size = 4 * torch.cuda.get_device_properties(0).L2_cache_size
    other, sink = torch.ones(size // 4, device="cuda"), torch.zeros(4, device="cuda", dtype=torch.int32)

    def flush() -> None:
        read_all(other, sink, 1)

    with open(path, encoding="utf-8") as file:
        lines = [json.loads(line) for line in file]
    launch("nothing", 1, 32, (), 0)
    for line in lines:
        _count(torch, line, build, launch, flush)


def _count(torch: Any, line: dict[str, Any], build: Any, launch: Any, flush: Any) -> None:
    runtime = torch.cuda.cudart()
    program = None
    try:
        program = build(torch, "cuda", case(line))
        for _ in range(2):
            program.run()
        flush()
    except (PerfmodelError, RuntimeError) as error:
        print(error, file=sys.stderr)
        program = None
    torch.cuda.synchronize()
    runtime.cudaProfilerStart()
    launch("nothing", 1, 32, (), 0)
    if program is not None:
        program.run()
        flush()
    torch.cuda.synchronize()
    runtime.cudaProfilerStop()
    del program
    torch.cuda.empty_cache()


if __name__ == "__main__":
    main(sys.argv[1])
