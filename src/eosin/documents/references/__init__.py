"""Sentences of a document that point to its figures."""
