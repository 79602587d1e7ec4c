"""What follows from the graph: paths of evidence, differentials, checks of a trace."""
