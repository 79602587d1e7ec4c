"""An exam: items are asked, graded, scored, and written as one artifact."""
