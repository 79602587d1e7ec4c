"""Verbs that make or prepare material."""
