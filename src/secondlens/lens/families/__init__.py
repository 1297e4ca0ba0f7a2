"""Adapters, one file per architecture family: references from an upstream module to a `VisionTower`."""
