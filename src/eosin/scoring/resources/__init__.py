"""What scoring is given, built from settings in one place: judge, sentence encoder, CLIP, knowledge graph."""
