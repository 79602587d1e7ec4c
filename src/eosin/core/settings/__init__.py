"""What a recipe may say: strict schemas of data, stages, reinforcement learning, masking and exams."""
