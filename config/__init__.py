"""What the author of an agent asked for."""
