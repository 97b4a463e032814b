"""Profiler traces: the work of a program on a card, read from the files that ``torch.profiler`` exports.

``reading`` reads a file, ``linking`` ties every kernel to the operator that launched it, ``spans`` takes the step's time
apart, ``pricing`` gives every kernel its formula and times, and ``advice`` ranks the changes that would save time.
``tracing`` puts them together.
"""
