"""Translates the Python of the model to JavaScript: one definition for the command line and the page."""
