"""Samples as other trainers take them. Each row carries the whole sample too, so that it comes back as it was."""
