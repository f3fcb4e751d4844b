"""The names and values of an author's options as they stand on a vendor's wire."""

import re
from typing import Any


def snake_case(name: str) -> str:
    """``vadThreshold`` → ``vad_threshold``."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def query_value(value: Any) -> str:
    """A value of an option as it stands in a URL."""
    return str(value).lower() if isinstance(value, bool) else str(value)
