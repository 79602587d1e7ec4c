"""A vision-language model as a second reader, whose disagreement with the rules is recorded."""
