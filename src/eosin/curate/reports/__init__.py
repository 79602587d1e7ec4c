"""Free-text reports become findings, a diagnosis and a question, each with what was lost on the way."""
