"""CLIP models: an image tower and a text tower in one space. One door for open_clip's and transformers' checkpoints."""
