"""The graph itself: concepts and relations, read from sources, merged, kept in columns on disk."""
