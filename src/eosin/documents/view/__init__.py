"""The pages to look at: what was found on each page of a document, by colour."""
