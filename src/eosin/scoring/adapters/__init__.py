"""Rewards as TRL and verl call them."""
