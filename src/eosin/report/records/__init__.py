"""What stands on disk, read for a page."""
