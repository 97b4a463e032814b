"""A program: what a piece of software does, as torch operators in order, and how long it takes on a card.

``program`` holds the calls as data, wherever they come from (a captured module, a profiler trace). ``run`` is how a
program meets the machine: eager, graph, compiled or ideal.
"""
