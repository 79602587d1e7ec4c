"""Closed questions from captions, labels and reports: distractors of the knowledge graph, balanced, none right too."""
