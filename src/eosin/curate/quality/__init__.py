"""How good a caption and a picture are, measured without a model: lengths, letters, repetition, language; contrast."""
