"""One file a stage, each reads top to bottom, and what all stages share."""
