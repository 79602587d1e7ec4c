"""The reading room: a checkpoint as the server's reader, calibration from an exam, corrections as data."""
