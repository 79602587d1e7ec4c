"""Layout by docling, an optional backend: what it finds on the pages becomes figures and captions of Eosin's own."""
