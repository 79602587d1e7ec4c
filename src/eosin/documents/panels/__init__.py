"""Panels: a figure divided along its gutters, each panel with its letter and its own part of the caption."""
