"""Generation behind one protocol."""
