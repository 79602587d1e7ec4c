"""What a recipe needs before it is run: memory by part, tokens a second, time and cost of every stage."""
