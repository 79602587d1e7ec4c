"""Many slides: one after the other, each in a process that may die alone."""
