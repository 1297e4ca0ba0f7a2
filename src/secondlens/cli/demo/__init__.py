"""The whole story in the embedded world: a list of commands, each with what it shows, and a report of them."""
