"""Compares the tiles that the model picks with those in the names of the kernels that cuBLAS launched.

python benchmarks/tiles.py [benchmarks/results/h100-kernel-names.jsonl]

A name such as nvjet_sm90_hsh_128x96_64x6_2x1_v_bz_NNN states the tile (columns x rows), the step along k and the stages, and
the cluster.
"""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from pathlib import Path

from perfmodel.hardware import gpu
from perfmodel.timing import picked_tiles

NAMES = Path(__file__).parent / "results" / "h100-kernel-names.jsonl"
TILE = re.compile(r"nvjet_sm90_\w+?_(\d+)x(\d+)_\d+x\d+_(\d+)x(\d+)_[hv]_bz_(\w+)")
NEAR = 1.1  # of the least assumed work


def main() -> None:
    count = int(gpu("h100").multiprocessors.value)
    found: Counter[str] = Counter()
    clusters: Counter[tuple[str, int]] = Counter()
    for line in Path(sys.argv[1] if len(sys.argv) > 1 else NAMES).read_text(encoding="utf-8").splitlines():
        one = json.loads(line)
        m, k, n, batch = (one["shape"][name] for name in ("m", "k", "n", "batch"))
        named = TILE.match(one["kernels"][0])
        assert named is not None, one["kernels"]
        columns, rows, across, down = map(int, named.groups()[:4])
        pick = picked_tiles.pick(m, n, batch, -(-k // picked_tiles.STEP), count)
        tiles = -(-m // rows) * -(-n // columns) * batch
        waves, least = (
            -(-(-(-m // high) * -(-n // wide) * batch) // count)
            * (high * wide + picked_tiles.ASSUMED_EDGE * (high + wide))
            for high, wide in ((rows, columns), pick[:2])
        )
        split = "split" in named[5], pick.split > 1
        found["split" if any(split) else "whole"] += 1
        found["split as the library"] += all(split)
        if not any(split):
            found["the very tile"] += (rows, columns) == pick[:2]
            found["work within 10 %"] += waves <= NEAR * least
            fills = "at most 0.91 of the card" if tiles <= picked_tiles.ROOM * count else "more"
            clusters[fills, across * down] += 1
    print("\n".join(f"{name}: {number}" for name, number in found.items()))
    for (fills, blocks), number in sorted(clusters.items()):
        print(f"tiles fill {fills}, cluster of {blocks}: {number}")


if __name__ == "__main__":
    main()
