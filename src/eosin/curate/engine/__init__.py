"""How a curation is run: shards on disk, steps over them here or on Ray, a ledger that adds up, and the result."""
