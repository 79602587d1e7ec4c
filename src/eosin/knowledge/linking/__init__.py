"""Text becomes linked, signed entities: names, words, context, senses, visibility."""
