"""The expected time of a kernel or a sequence, as every report shows it."""

from typing import NamedTuple

from perfmodel.timing.terms import Body, Term


class Expected(NamedTuple):
    """A time, its range (80 % of measurements), and its terms. The terms that count add up to the time.

    ``bodies`` are the launches without their launch costs, ``kernels`` the name of the kernel that each belongs to.
    ``unclamped_s`` is the model's own time, before it is held to the lower bound. ``unmodelled_s`` is the part of it that is
    priced by bytes alone, for want of a mechanism.
    """

    expected_s: float
    low_s: float
    high_s: float
    terms: tuple[Term, ...] = ()
    bodies: tuple[Body, ...] = ()
    kernels: tuple[str, ...] = ()
    unclamped_s: float = 0.0
    unmodelled_s: float = 0.0
