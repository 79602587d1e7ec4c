"""What a figure is and what its caption says of it: histology or plot, stain, organ, magnification."""
