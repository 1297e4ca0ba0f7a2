"""Benchmarks: figures with the machine, versions and command that made them."""
