"""Pictures with captions as others hand them out, and the closed questions that can be made of captions."""
