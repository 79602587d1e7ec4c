"""Open answers against a reference: overlap of words, and of embedded tokens."""
