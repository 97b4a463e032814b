"""The explorer: one HTML page with sliders, whose JavaScript is translated from the Python of the model."""
