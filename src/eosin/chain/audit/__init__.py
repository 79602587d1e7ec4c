"""`eosin audit`: what is wrong with a data set, ours or a stranger's, on one page."""
