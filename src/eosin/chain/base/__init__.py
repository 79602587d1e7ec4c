"""The model before any training: what a recipe builds or composes, and which pictures it takes."""
