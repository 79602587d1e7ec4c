"""Proof on data that gold earns the most and no known cheat pays."""
