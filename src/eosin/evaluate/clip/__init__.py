"""Exams of CLIP models: zero-shot, few-shot, retrieval, and slides by their tiles."""
