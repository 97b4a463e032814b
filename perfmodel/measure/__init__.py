"""Measurement on a real card, beside the model and never inside it."""
