"""What a page holds, whatever file it came from: boxes, lines and blocks of text, pictures, drawings."""
