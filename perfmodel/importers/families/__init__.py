"""Families of architectures, one file each: what their config means."""
