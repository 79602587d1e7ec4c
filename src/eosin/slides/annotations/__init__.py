"""Outlines drawn on slides, in and out."""
