"""The warm-up of a tower, before any language."""
