"""A machine that counts every scalar operation by name, and the elements that each kernel moves.

Within a kernel an element is read from memory once and stays on chip until ``forget`` drops it. It is written once.
With ``apart`` the kernels run one by one, and data between them go through memory. Otherwise all are one kernel, and
these data stay on chip. Accumulators start at zero, so a sum of n terms takes n additions.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from itertools import product


class Number:
    """A float that records the operations on it."""

    __slots__ = ("machine", "value")

    def __init__(self, machine, value):
        self.machine, self.value = machine, value

    def _counted(self, primitive, value):
        self.machine.primitives[primitive] += 1
        return Number(self.machine, value)

    def __add__(self, other):
        return self._counted("add", self.value + float(other))

    def __sub__(self, other):
        return self._counted("subtract", self.value - float(other))

    def __rsub__(self, other):
        return self._counted("subtract", float(other) - self.value)

    def __mul__(self, other):
        return self._counted("multiply", self.value * float(other))

    def __truediv__(self, other):
        return self._counted("divide", self.value / float(other))

    def __neg__(self):
        return self._counted("negate", -self.value)

    def __float__(self):
        return float(self.value)

    def __gt__(self, other):
        self.machine.primitives["compare"] += 1
        return self.value > float(other)

    __radd__, __rmul__ = __add__, __mul__

    def maximum(self, other):
        return self._counted("max", max(self.value, float(other)))

    def minimum(self, other):
        return self._counted("max", min(self.value, float(other)))

    def exp(self, factor=1.0):
        """The exponential. A constant factor of its argument is folded into it."""
        return self._counted("exp", math.exp(factor * self.value))

    def log(self):
        return self._counted("log", math.log(self.value))

    def tanh(self):
        return self._counted("tanh", math.tanh(self.value))

    def erf(self):
        return self._counted("erf", math.erf(self.value))

    def sqrt(self):
        return self._counted("sqrt", math.sqrt(self.value))

    def rsqrt(self):
        return self._counted("rsqrt", 1 / math.sqrt(self.value))

    def chosen(self, condition):
        """Returns the number or zero."""
        return self._counted("select", self.value if condition else 0.0)


class Array:
    """A tensor of scalars in memory, where loads and stores are counted, or on chip."""

    def __init__(self, machine, shape, item, in_memory, values):
        self.machine, self.shape, self.item, self.in_memory, self.values = machine, shape, item, in_memory, values
        self.given = dict(values)  # initial values, for arrays that are changed in place

    def __getitem__(self, index):
        index = index if isinstance(index, tuple) else (index,)
        if self.in_memory:
            self.machine.loaded(self, index)
        return Number(self.machine, self.values[index])

    def __setitem__(self, index, number):
        index = index if isinstance(index, tuple) else (index,)
        if self.in_memory:
            self.machine.stored(self, index)
        self.values[index] = float(number)

    def indices(self):
        return product(*map(range, self.shape))

    def nested(self, given=False):
        """Returns the values as nested lists. With ``given``, the values before the algorithm ran."""
        values = self.given if given else self.values

        def at(index):
            if len(index) == len(self.shape):
                return values[index]
            return [at((*index, i)) for i in range(self.shape[len(index)])]

        return at(())


class Machine:
    def __init__(self, apart=False):
        self.apart = apart
        self.primitives = Counter()
        self.arrays = {}
        self.kernels = [Counter()]  # bytes that each kernel reads and writes
        self._here = set()
        self._written = set()
        self._random = random.Random(7)

    def input(self, name, *shape, item=2):
        """Returns a tensor in memory with random values that are safe to divide by."""
        values = {index: self._random.uniform(0.25, 2) * self._random.choice((-1, 1)) for index in _indices(shape)}
        return self._array(name, shape, item, True, values)

    def tokens(self, name, *shape, item=8, below):
        return self._array(name, shape, item, True, {index: self._random.randrange(below) for index in _indices(shape)})

    def output(self, name, *shape, item=2):
        return self._array(name, shape, item, True, dict.fromkeys(_indices(shape), 0.0))

    def between(self, name, *shape, item=2):
        """Returns a tensor that one kernel writes and a later one reads. It is in memory if the kernels are separate."""
        return self._array(name, shape, item, self.apart, dict.fromkeys(_indices(shape), 0.0))

    def scratch(self, *shape):
        return self._array("scratch", shape, 0, False, dict.fromkeys(_indices(shape), 0.0))

    def _array(self, name, shape, item, in_memory, values):
        self.arrays[name] = Array(self, shape, item, in_memory, values)
        return self.arrays[name]

    def zero(self):
        return Number(self, 0.0)

    def lowest(self):
        return Number(self, -math.inf)

    def next_kernel(self):
        """Starts another kernel if the kernels are separate. Nothing stays on chip."""
        if self.apart:
            self.kernels.append(Counter())
            self._here.clear()
            self._written.clear()

    def forget(self, *arrays):
        """Drops arrays from the chip. Elements that are needed again are read again."""
        gone = set(map(id, arrays))
        self._here = {place for place in self._here if place[0] not in gone}
        self._written = {place for place in self._written if place[0] not in gone}

    def loaded(self, array, index):
        if (id(array), index) not in self._here:
            self._here.add((id(array), index))
            self.kernels[-1]["read"] += array.item

    def stored(self, array, index):
        self._here.add((id(array), index))
        if (id(array), index) not in self._written:
            self._written.add((id(array), index))
            self.kernels[-1]["write"] += array.item

    @property
    def read_byte(self):
        return sum(kernel["read"] for kernel in self.kernels)

    @property
    def write_byte(self):
        return sum(kernel["write"] for kernel in self.kernels)

    @property
    def kernel_bytes(self):
        return [kernel.total() for kernel in self.kernels]


def _indices(shape):
    return product(*map(range, shape))
