"""Where there is tissue on a slide, and what else lies there."""
