"""Exams as tasks of other harnesses: lmms-eval, VLMEvalKit, inspect_ai; results in the hub's form."""
