"""How answers look: tables, documents, plots and pages. Nothing is computed here that an answer does not hold."""
