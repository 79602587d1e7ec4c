"""Where stages meet on disk: artifacts that are whole or do not exist, and the record beside each result."""
