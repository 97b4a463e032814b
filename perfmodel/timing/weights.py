"""The figures of the mechanisms, as ``hardware/kernels`` states them: one file for each module of this package.

A *fact* is read from hardware or from a library's source: the threads of a warp, the longest row that a warp handles. A
*weight* is fitted: with it, expected times agree with measurements. Many weights have a physical reading, such as
instructions per element; the file says which. Every entry names its unit, its meaning and its source.

The modules read the values when they are imported. Each entry is one line ``name: {value: ..., ...}``, so that a regular
expression finds the values 50 times faster than a YAML reader. ``registry`` reads the files in full and checks them.
"""

import os.path
import re

from perfmodel.paths import PACKAGED

FOLDER = os.path.join(PACKAGED, "hardware", "kernels")
_ENTRY = re.compile(r'^  ([\w ]+): \{value: "?([^",}]+)', re.MULTILINE)


class Mechanism:
    """The values of one file, by name."""

    def __init__(self, name: str) -> None:
        with open(os.path.join(FOLDER, f"{name}.yaml"), encoding="utf-8") as file:
            self._texts: dict[str, str] = dict(_ENTRY.findall(file.read()))

    def weight(self, name: str) -> float:
        """A weight, or a fact that need not be whole."""
        return float(self._texts[name])

    def weights(self, *names: str) -> tuple[float, ...]:
        return tuple(float(self._texts[name]) for name in names)

    def group(self, word: str) -> dict[str, float]:
        """All figures whose name begins with this word, by the rest of the name."""
        start = f"{word} "
        return {name[len(start) :]: float(text) for name, text in self._texts.items() if name.startswith(start)}

    def fact(self, name: str) -> int:
        return int(self._texts[name])

    def facts(self, *names: str) -> tuple[int, ...]:
        return tuple(int(self._texts[name]) for name in names)

    def sizes(self, name: str) -> tuple[int, ...]:
        """A list of whole numbers: ``1 2 4``."""
        return tuple(map(int, self._texts[name].split()))

    def pairs(self, name: str, sign: str = "x") -> tuple[tuple[int, int], ...]:
        """A list of pairs of whole numbers: ``256x128 64x64``."""
        split = (pair.split(sign) for pair in self._texts[name].split())
        return tuple((int(first), int(second)) for first, second in split)

    def words(self, name: str) -> list[str]:
        """A list in a form of its own; empty where the file has none."""
        return self._texts[name].split() if name in self._texts else []
