"""What must not be shown: credentials, and addresses that carry one."""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

HIDDEN = "***"

_SECRET_NAME = re.compile(
    r"auth|credential|passw|secret|token(?!s$|_?limit)|api_?key|access_?key|private_?key|subscription_?key"
    r"|cookie|signature|signed|^key$|headers",
    re.IGNORECASE,
)


class Secrets(dict[str, Any]):
    """A free object whose values are credentials. Printing it shows which there are, never what they are."""

    def __repr__(self) -> str:
        return repr(dict.fromkeys(self, HIDDEN))

    __str__ = __repr__

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(cls, handler(dict[str, Any]))


def is_secret_name(name: object) -> bool:
    """Does a key of this name hold a credential? ``auth``, ``apiKey``, ``password``, ``authToken``, …"""
    return isinstance(name, str) and _SECRET_NAME.search(name) is not None


def brings_secret(auth: Any) -> bool:
    """Is there at least one credential with a value in this object?"""
    if not isinstance(auth, Mapping):
        return False
    return any(
        brings_secret(value) if isinstance(value, Mapping) else is_secret_name(key) and bool(value)
        for key, value in auth.items()
    )


def hide(value: Any) -> Any:
    """The same value with every credential replaced: for logs, ``repr`` and messages."""
    match value:
        case Secrets():
            return dict.fromkeys(value, HIDDEN)
        case Mapping():
            return {key: HIDDEN if is_secret_name(key) and item else hide(item) for key, item in value.items()}
        case list() | tuple():
            return [hide(item) for item in value]
        case str() if "://" in value:
            return hide_in_url(value)
        case _:
            return value


def hide_in_url(url: str) -> str:
    """The address without user name, password and query: MCP servers take their keys in the query."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return HIDDEN
    host = f"{HIDDEN}@{parts.netloc.rpartition('@')[2]}" if "@" in parts.netloc else parts.netloc
    return urlunsplit((parts.scheme, host, parts.path, HIDDEN if parts.query else "", ""))
