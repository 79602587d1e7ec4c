"""Books and articles as web pages: EPUB and HTML. No script is run, no link followed, nothing unpacked to disk."""
