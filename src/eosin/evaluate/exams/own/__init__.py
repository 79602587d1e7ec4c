"""Exams that need no published set: phantoms, and data of one's own."""
