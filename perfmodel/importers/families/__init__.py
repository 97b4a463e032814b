"""Families of architectures: one file each, which reads their configs."""
