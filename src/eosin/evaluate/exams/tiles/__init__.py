"""Exams on pictures: tiles, photographs and other modalities."""
