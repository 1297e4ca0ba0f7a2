"""Fixtures of the tiny world."""

from tiny_world import auditor, world_cache, world_folder, world_model

__all__ = ["auditor", "world_cache", "world_folder", "world_model"]
