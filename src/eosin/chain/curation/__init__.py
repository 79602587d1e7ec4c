"""Curating: the source that a recipe names, the exams that it protects, and the steps over them."""
