"""The header of Basic authentication."""

import base64


def basic(username: str, password: str | None) -> str:
    """The value of ``Authorization``."""
    named = f"{username}:{password or ''}".encode()
    return f"Basic {base64.b64encode(named).decode()}"
