"""Training stages. Each file reads top to bottom; checkpoints are the bridge to exams."""
