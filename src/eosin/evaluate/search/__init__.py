"""An index of embeddings on disk: tiles like this one, or like these words."""
