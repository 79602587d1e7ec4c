"""PHANTOM books and articles with known truth: PDFs and JATS with figures, panels, captions and references."""
