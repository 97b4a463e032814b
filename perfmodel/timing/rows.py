"""Rows of softmax, normalisation and their gradients."""

from typing import NamedTuple


class Row(NamedTuple):
    """Number of rows, elements per row, bytes per element."""

    rows: int
    cols: int
    item: int

    @property
    def byte(self) -> int:
        return self.rows * self.cols * self.item
