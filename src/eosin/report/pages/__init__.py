"""Whole pages: a run, a reading of a slide, a comparison of runs."""
