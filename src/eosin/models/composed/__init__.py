"""A reasoner composed from pretrained parts: eyes, projector, language model, in the form of LLaVA."""
