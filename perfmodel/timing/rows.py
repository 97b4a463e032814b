"""Rows: what softmax, normalisation and their gradients go over."""

from typing import NamedTuple


class Row(NamedTuple):
    """So many rows of so many elements of so many bytes."""

    rows: int
    cols: int
    item: int

    @property
    def byte(self) -> int:
        return self.rows * self.cols * self.item
