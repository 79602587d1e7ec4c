"""Whole slides: open, find tissue, cut tiles in microns, look, audit."""

from eosin.slides.open.slide import Slide, open_slide

__all__ = ["Slide", "open_slide"]
