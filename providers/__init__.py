"""Vendors: audio to events, messages to tokens, text to audio."""
