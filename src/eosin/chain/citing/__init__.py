"""What a run stands on: BibTeX of its methods, data and encoders."""
