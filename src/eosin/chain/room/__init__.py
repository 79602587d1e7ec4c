"""The reading room: a checkpoint as the server's reader, calibration from an exam, a run's folder, corrections as data."""
