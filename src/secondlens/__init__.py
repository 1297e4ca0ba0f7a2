"""secondlens."""
