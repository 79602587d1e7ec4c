"""Copies among many: texts by their runs of words, pictures by their marks, and the groups that they form."""
