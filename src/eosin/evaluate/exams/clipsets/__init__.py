"""Sets on which CLIP models of pathology are examined: classes as folders, and pictures with captions."""
