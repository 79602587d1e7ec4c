"""One file a library that reads slides. `slide.py` alone decides which is asked."""
