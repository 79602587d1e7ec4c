"""Samples become the rows and batches that trainers take."""
