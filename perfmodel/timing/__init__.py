"""The time model: expected times of kernels and of sequences of kernels. Each mechanism has a file of its own.

``parameters`` collects the figures of a card and their sources. ``kernels`` selects the mechanism of an operation.
``sequence`` adds kernels, gaps and launches. Times are computed from mechanisms and not looked up, so the model covers
shapes that were never measured.
"""
