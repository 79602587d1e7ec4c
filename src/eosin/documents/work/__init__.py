"""Many documents: found, read one by one in processes that may die alone, and written as one samples artifact."""
