"""The figures of the mechanisms: one file of ``hardware/kernels`` for each module of this package.

A *fact* is read from hardware or from a library's source: the threads of a warp, the longest row that a warp handles. A
*weight* is fitted: with it, expected times agree with measurements. Many weights have a physical reading, such as
instructions per element; the file says which. Every entry names its unit, its meaning and its source.

The modules read the values when they are imported. Each entry is one line ``name: {value: ..., ...}``, so that they are
found 100 times faster than by a YAML reader. ``registry`` reads the files in full and checks them.
"""

import os.path

from perfmodel.paths import PACKAGED

FOLDER = os.path.join(PACKAGED, "hardware", "kernels")
# The values that modules were given, by mechanism and name. No two fractions are the same object, so that ``registry``
# finds them wherever a module keeps them.
GIVEN: dict[str, dict[str, float]] = {}


class Mechanism:
    """The values of one file, by name."""

    def __init__(self, name: str) -> None:
        with open(os.path.join(FOLDER, f"{name}.yaml"), encoding="utf-8") as file:
            entries = (line.partition(": {value: ") for line in file.read().split("\n  "))
            self._texts = {key: _value(rest) for key, sign, rest in entries if sign}
        self._given = GIVEN.setdefault(name, {})

    def weight(self, name: str) -> float:
        """A weight, or a fact that need not be whole."""
        return self._given.setdefault(name, float(self._texts[name]))

    def weights(self, *names: str) -> tuple[float, ...]:
        return tuple(map(self.weight, names))

    def group(self, word: str) -> dict[str, float]:
        """All figures whose name begins with this word, by the rest of the name."""
        start = f"{word} "
        return {name[len(start) :]: self.weight(name) for name in self._texts if name.startswith(start)}

    def fact(self, name: str) -> int:
        return int(self._given.setdefault(name, int(self._texts[name])))

    def facts(self, *names: str) -> tuple[int, ...]:
        return tuple(map(self.fact, names))

    def sizes(self, name: str) -> tuple[int, ...]:
        """A list of whole numbers: ``1 2 4``."""
        return tuple(map(int, self._texts[name].split()))

    def pairs(self, name: str, sign: str = "x") -> tuple[tuple[int, int], ...]:
        """A list of pairs of whole numbers: ``256x128 64x64``."""
        split = (pair.split(sign) for pair in self._texts[name].split())
        return tuple((int(first), int(second)) for first, second in split)

    def words(self, name: str, sign: str | None = None) -> list[str]:
        """A list of words; empty where the file has none."""
        return self._texts[name].split(sign) if name in self._texts else []


def _value(rest: str) -> str:
    """The value at the start of an entry, without quotation marks."""
    return rest.partition(",")[0].strip('"')
