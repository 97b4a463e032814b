"""Our CUDA kernels: their sources, and how each is laid out over threads. Read by the launchers and by the time model."""

from os.path import dirname

FOLDER = dirname(__file__)
