"""A model and slides behind HTTP. Research use only, not for diagnosis."""
