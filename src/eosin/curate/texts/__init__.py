"""What written texts must not hold: leaks of their source, left-overs of templates, repetition, two scripts."""
