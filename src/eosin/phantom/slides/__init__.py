"""Phantom slides: planned, painted, written, with their truth."""
