"""Measurement on a real device. The model never imports it."""
