"""Segmentation by text: how well heat maps find what is in the picture."""
