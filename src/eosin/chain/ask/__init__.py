"""One question to a checkpoint, about an image, a region or a whole slide."""
