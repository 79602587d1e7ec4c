"""What a recipe, the command line and the Python API know, as text: read from settings, verbs and docstrings."""
