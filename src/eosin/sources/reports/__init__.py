"""Free-text reports as samples, from tables and folders."""
