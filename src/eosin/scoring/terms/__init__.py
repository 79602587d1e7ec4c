"""Where a reply becomes a score: one file a reward term."""
