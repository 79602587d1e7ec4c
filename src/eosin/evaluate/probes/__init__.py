"""Does the model look at the image?"""
