"""Which patches a reply depends on, and whether that is so."""
