"""Start-up: whole commands against the imports that they need, measured in turn so that drift cancels in the ratio.

python benchmarks/startup.py [rounds]

Byte code is cached in a folder of its own, as it is for any installed package, whatever the environment says.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

PERFMODEL = shutil.which("perfmodel") or sys.exit("perfmodel is not on the PATH: pip install -e . first")
CLICK = [sys.executable, "-c", "import click"]
ALL = [sys.executable, "-c", "import click, yaml"]
PAIRS = [
    ("--help", [PERFMODEL, "--help"], "import click", CLICK, 1.3),
    (
        "flops --config llama-2-7b-layer --gpu a100",
        [PERFMODEL, "flops", "--config", "llama-2-7b-layer", "--gpu", "a100"],
        "import click, yaml",
        ALL,
        1.6,
    ),
    (
        "flops --config gpt2 (smallest model)",
        [PERFMODEL, "flops", "--config", "gpt2"],
        "import click, yaml",
        ALL,
        0.0,
    ),
    (
        "flops --config llama-3.1-405b (largest)",
        [PERFMODEL, "flops", "--config", "llama-3.1-405b"],
        "flops --config gpt2",
        [PERFMODEL, "flops", "--config", "gpt2"],
        2.0,
    ),
]


def seconds(command: list[str], environment: dict[str, str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True, env=environment)
    return time.perf_counter() - start


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    print("| command | median | against | median | ratio | bar |\n|---|---:|---|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "PYTHONPYCACHEPREFIX": folder}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        for name, command, other_name, other, bar in PAIRS:
            for each in (command, other):
                seconds(each, environment)
            pairs = [(seconds(command, environment), seconds(other, environment)) for _ in range(rounds)]
            mine, its = (statistics.median(pair[i] for pair in pairs) * 1e3 for i in (0, 1))
            ratio = statistics.median(a / b for a, b in pairs)
            print(
                f"| `{name}` | {mine:.0f} ms | `{other_name}` | {its:.0f} ms | {ratio:.2f} | {bar or '-'} |", flush=True
            )


if __name__ == "__main__":
    main()
