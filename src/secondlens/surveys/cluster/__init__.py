"""The same surveys on many machines or GPUs, through Ray; the only place that imports it.

The process that counts images needs no torch: nothing is imported here.
"""
