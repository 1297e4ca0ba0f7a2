"""Segmentation by text: masks written to files, and how well heat maps find what is in the picture."""

from secondlens.applications.segmentation.files import Segmentation, write_segmentation

__all__ = ["Segmentation", "write_segmentation"]
