"""A slide file becomes pixels: which reader opens it, its levels and scale, regions in microns."""
