"""Figures: pictures and drawings of a page joined into regions, regions joined to captions."""
