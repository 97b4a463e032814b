"""Rows of softmax, normalisation and their gradients."""

from typing import NamedTuple

from perfmodel.arithmetic import Size

ROWS = ("softmax", "log_softmax", "layernorm", "rmsnorm")  # functions with a mechanism


class Row(NamedTuple):
    """Number of rows, elements per row, bytes per element."""

    rows: Size
    cols: Size
    item: int

    @property
    def byte(self) -> Size:
        return self.rows * self.cols * self.item
