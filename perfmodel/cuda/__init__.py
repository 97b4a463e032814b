"""CUDA kernels: their sources, and how each is laid out over threads. The launchers and the time model read these."""

from os.path import dirname

FOLDER = dirname(__file__)
