"""Synthesizers, one file a vendor."""
