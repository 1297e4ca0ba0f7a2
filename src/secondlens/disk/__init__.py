"""What is written: files that are whole or absent, journals, strict JSON."""
