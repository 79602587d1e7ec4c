"""Samples in shards that are read as they are needed: an index over them, an order that is computed, a reader."""
