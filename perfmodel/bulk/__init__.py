"""Files of many cases: lines that differ in their sizes alone are read, predicted and written together."""
