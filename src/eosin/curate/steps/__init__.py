"""Steps of a curation: `base` says what a step is, `registry` lists them; one file a step."""
