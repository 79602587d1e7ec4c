"""What everything is made of: Sample, reply grammar, prompt, typed outcomes (Kept, Dropped), units, bags."""
