"""Profiler traces: the work of a program on a card, read from the files that ``torch.profiler`` exports.

``reading`` reads a file, and ``linking`` assigns every kernel to the operator that launched it. ``spans`` divides the
time of the step into parts. ``pricing`` gives every kernel its formula and times. ``advice`` ranks changes by the time
that they save. ``tracing`` puts them together.
"""
