"""A vendor's key and address: what must be said of them before anything is sent, and where keys lie that nobody
configured: in the environment variables that the vendors' own SDKs read.
"""

import os
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from providers.base import ProviderError
from providers.failures import Role

SAME_ACCOUNT = {"deepgramflux": "deepgram", "flux": "deepgram", "bedrock": "aws"}
"""Vendor names that are another name's account."""

OWN_HOSTS = {
    "anthropic": "api.anthropic.com",
    "google": "generativelanguage.googleapis.com",
    "openai": "api.openai.com",
}
"""Where models are at home: naming this address in an agent is the same as naming none."""

# Each credential with the variables that may hold it, the first that is set counts. AWS is left to boto3, which knows
# profiles and roles as well.
ENVIRONMENT: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "anthropic": {"apiKey": ("ANTHROPIC_API_KEY",), "baseURL": ("ANTHROPIC_BASE_URL",)},
    "assemblyai": {"apiKey": ("ASSEMBLYAI_API_KEY",)},
    "cartesia": {"apiKey": ("CARTESIA_API_KEY",)},
    "deepgram": {"apiKey": ("DEEPGRAM_API_KEY",)},
    "elevenlabs": {"apiKey": ("ELEVENLABS_API_KEY",)},
    "google": {"apiKey": ("GOOGLE_API_KEY", "GEMINI_API_KEY")},
    "openai": {"apiKey": ("OPENAI_API_KEY",), "baseURL": ("OPENAI_BASE_URL",)},
    "rime": {"apiKey": ("RIME_API_KEY",)},
    "speechmatics": {"apiKey": ("SPEECHMATICS_API_KEY",)},
}


def variables(vendor: str) -> tuple[str, ...]:
    """The environment variables in which a vendor's key is looked for."""
    return ENVIRONMENT.get(SAME_ACCOUNT.get(vendor, vendor), {}).get("apiKey", ())


def is_own_address(vendor: str, url: object) -> bool:
    """Is this the vendor's own address, so that its key may go there?"""
    parts = urlsplit(str(url))
    return parts.scheme == "https" and parts.netloc == OWN_HOSTS.get(vendor)


def from_environment(vendor: str, environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """What the environment has for a vendor; ``{}`` when there is no key in it."""
    environment = os.environ if environment is None else environment
    found = {
        name: value
        for name, names in ENVIRONMENT.get(SAME_ACCOUNT.get(vendor, vendor), {}).items()
        if (value := next((environment[each] for each in names if environment.get(each)), None))
    }
    return found if "apiKey" in found else {}


def key_of(role: Role, vendor: str, given: Any) -> str:
    """The key as it can be sent. Raises :class:`ProviderError` when there is none, or it cannot be one."""
    key = str(given or "").strip()
    if not key:
        often = f" (often ${{{names[0]}}})" if (names := variables(vendor)) else ""
        message = f"expected credentials.{vendor}.apiKey{often}, got none"
        raise ProviderError(vendor, f"{role}-no-credentials", message)
    return plain(role, vendor, key)


def plain(role: Role, vendor: str, key: str) -> str:
    """The same key. Raises :class:`ProviderError` for one that no header can hold: libraries would quote it."""
    if not (key.isascii() and key.isprintable()):
        raise ProviderError(vendor, f"{role}-bad-credentials", "expected an apiKey of plain ASCII, got another")
    return key


def socket_url(role: Role, vendor: str, url: str) -> str:
    """The address of a websocket, without a slash at its end. Raises :class:`ProviderError` for what is none."""
    if not url.startswith(("ws://", "wss://")) or not urlsplit(url).hostname:
        message = f"expected credentials.{vendor}.url to begin with ws(s)://, got another"
        raise ProviderError(vendor, f"{role}-bad-url", message)
    return url.rstrip("/")
