"""`eosin clip`: image and text towers, examined and searched with."""
