"""Tiles become features: patch encoders, and what each of them is and needs."""
