"""Where patches become tokens: LongNet tower, projector and processor of the slide reader."""
