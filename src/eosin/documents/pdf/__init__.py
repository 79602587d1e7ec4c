"""PDF files: opened with care, their text with geometry, their pictures at native resolution."""
