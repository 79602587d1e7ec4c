"""A judge model and the checklist that it fills."""
