"""What an exam can be passed with, without a language model."""
