"""Figures, curves, pictures and numbers as they stand on a page."""
