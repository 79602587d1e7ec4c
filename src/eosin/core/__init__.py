"""The nouns and settings that every room shares, and where stages meet on disk. Never torch."""
