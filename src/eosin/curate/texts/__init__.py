"""Marks of bad text: leaks of the source, left-overs of templates, repetition, language."""
