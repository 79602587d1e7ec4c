"""A recipe from data to report, every step a whole artifact."""
