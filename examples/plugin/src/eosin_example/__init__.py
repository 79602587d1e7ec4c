"""A data source, a reward, an encoder and an exam of one's own, as a package that Eosin finds by its entry points."""
