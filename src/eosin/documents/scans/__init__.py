"""Pages without a text layer: their words by OCR, their pictures by ink."""
