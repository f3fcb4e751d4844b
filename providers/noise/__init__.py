"""Noise isolation: an engine takes the noise out of one direction of a call."""
