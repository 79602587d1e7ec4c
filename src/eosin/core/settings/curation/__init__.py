"""What a curation recipe may say: a class of settings a step, their union, and the recipe around them."""
