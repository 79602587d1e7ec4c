"""Captions: how a label is written, where a caption begins and ends."""
