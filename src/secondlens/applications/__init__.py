"""Applications: what the lens is good for. Each is a folder of its own that needs no other."""
