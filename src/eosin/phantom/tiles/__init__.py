"""Phantom tiles: cells, glands, scenes, optics, and their words."""
