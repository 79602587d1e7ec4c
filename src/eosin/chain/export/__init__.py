"""Recipes for other trainers: data, rewards and configuration as verl, ms-swift and LLaMA-Factory take them."""
