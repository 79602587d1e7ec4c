"""Chains of reasoning that a large model writes from captions, and the rules that every chain must pass."""
