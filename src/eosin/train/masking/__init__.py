"""Masked SFT of slides: trajectories and pseudo-bags, and a look at what carries loss."""
