"""Runs a recipe: data, stages, exams, report. The one room that knows all the others."""
