"""Studies: what replacing effects does to a model's accuracy, and how far descriptions can be trusted."""
