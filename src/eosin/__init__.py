"""Eosin: vision-language models that reason about tissue. Research use only, not for diagnosis."""

__version__ = "0.1.0"
