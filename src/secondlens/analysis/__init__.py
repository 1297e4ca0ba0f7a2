"""Applications: where in an image a text is, what an image shows, what a model can be fooled by."""
