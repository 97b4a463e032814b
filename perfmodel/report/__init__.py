"""Formats of answers: tables, documents, plots and pages. Figures come from the answers."""
