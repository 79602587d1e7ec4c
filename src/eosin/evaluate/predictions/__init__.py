"""Replies that other harnesses logged, read and scored anew."""
