"""Models: the tiny one built here, any image-text-to-text model by name, and their checkpoints."""
