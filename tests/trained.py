"""The trainings of the example of associative recall. Its tests and its chapter look at the same models."""

from __future__ import annotations

from functools import cache

from examples.associative_recall import train

once = cache(train.train)
