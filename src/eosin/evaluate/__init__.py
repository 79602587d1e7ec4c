"""Exams: greedy and sampled decoding, strict scoring, intervals over cases, probes, baselines.

Research use only, not for diagnosis.
"""
