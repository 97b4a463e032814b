"""The expected time of a kernel or a sequence, as every report shows it."""

from typing import NamedTuple

from perfmodel.timing.terms import Body, Term


class Expected(NamedTuple):
    """A time, the range that about 80 % of measurements lie in, and its terms: those that count add up to it.

    ``bodies`` are the launches without what is around them, ``kernels`` the names of what each belongs to.
    """

    expected_s: float
    low_s: float
    high_s: float
    terms: tuple[Term, ...] = ()
    bodies: tuple[Body, ...] = ()
    kernels: tuple[str, ...] = ()
