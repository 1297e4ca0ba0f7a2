"""How well a heat map finds what is in the picture: masks, metrics, and the harness that runs every method."""
