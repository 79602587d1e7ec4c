"""Exams on whole slides."""
