"""Features of slides on disk: computed, resumed, read in the field's formats, shown to a model."""
