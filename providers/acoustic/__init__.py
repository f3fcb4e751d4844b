"""Engines behind `turnDetection: krisp`: they hear the caller's audio and judge whether the turn is over."""
