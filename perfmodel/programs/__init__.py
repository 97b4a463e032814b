"""Programs: sequences of torch operators, and their time on a card.

``program`` holds the calls as data, wherever they come from (a captured module, a profiler trace). ``run`` is how a
program meets the machine: eager, graph, compiled or ideal.
"""
