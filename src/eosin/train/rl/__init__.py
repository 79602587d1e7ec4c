"""Reinforcement learning: groups and their advantage, rollouts, the shared-prefix loss, checks, collapse."""
