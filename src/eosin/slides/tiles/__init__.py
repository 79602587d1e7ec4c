"""A slide is cut into tiles of equal size in microns; tiles are read fast, judged and shown."""
