"""Verbs that examine, score and report."""
