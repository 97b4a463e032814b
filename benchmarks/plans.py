"""Measures the processor time of searches for the best plan, each in a process of its own with nothing computed before.

python benchmarks/plans.py [rounds]
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from json import loads
from resource import RUSAGE_CHILDREN, getrusage

PERFMODEL = shutil.which("perfmodel") or sys.exit("perfmodel is not on the PATH: pip install -e . first")
CASES = [
    ("llama-2-70b", 64, ("B=512",), 2.0),
    ("mixtral-8x7b", 64, ("B=512",), 2.0),
    ("llama-3-8b", 64, ("B=64", "N=32Ki"), 2.0),
    ("llama-3-70b", 1024, ("B=1024",), 10.0),
    ("gpt-oss-120b", 1024, ("B=2048",), 10.0),
    ("deepseek-v3", 1024, ("B=2048",), 10.0),
]


def measured(config: str, gpus: int, settings: tuple[str, ...]) -> tuple[float, dict[str, object]]:
    """The user time of one search in seconds, and its answer."""
    before = getrusage(RUSAGE_CHILDREN).ru_utime
    sizes = [part for setting in settings for part in ("--set", setting)]
    command = [PERFMODEL, "plan", "--config", config, "--gpu", "h100", "--gpus", str(gpus), "--phase", "train", *sizes]
    ran = subprocess.run([*command, "--format", "json"], capture_output=True, text=True, check=True)
    return getrusage(RUSAGE_CHILDREN).ru_utime - before, loads(ran.stdout)


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    print("| config | GPUs | sizes | legal plans | fit | user time, s | bar, s |\n|---|---|---|---|---|---|---|")
    for config, gpus, settings, bar in CASES:
        found = [measured(config, gpus, settings) for _ in range(rounds)]
        seconds, answer = min(seconds for seconds, _ in found), found[0][1]
        sizes = ", ".join(settings)
        print(
            f"| {config} | {gpus:,} | {sizes} | {answer['legal']:,} | {answer['fitting']:,} | {seconds:.1f} | {bar:g} |"
        )


if __name__ == "__main__":
    main()
