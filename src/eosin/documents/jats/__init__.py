"""Articles in JATS XML: parsed with care, their figures, captions, references and licences."""
