"""Vendors by name. A vendor's module, and with it its SDK, is imported only when a configuration names it."""

import importlib
import sys
from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Any, Protocol, TypeVar, cast

from providers.base import Llm, LlmSpec, Stt, SttSpec, Tts, TtsSpec

T = TypeVar("T", bound="Closable")

STT = {
    "assemblyai": "providers.stt.assemblyai",
    "deepgram": "providers.stt.deepgram",
    "deepgramflux": "providers.stt.flux",
    "elevenlabs": "providers.stt.elevenlabs",
    "flux": "providers.stt.flux",
    "local": "providers.stt.local",
    "scripted": "providers.scripted",
    "speechmatics": "providers.stt.speechmatics",
}
LLM = {
    "CUSTOM_LLM": "providers.llm.openai",
    "anthropic": "providers.llm.anthropic",
    "aws": "providers.llm.bedrock",
    "bedrock": "providers.llm.bedrock",
    "demo": "providers.llm.demo",
    "google": "providers.llm.google",
    "openai": "providers.llm.openai",
    "scripted": "providers.scripted",
}
TTS = {
    "cartesia": "providers.tts.cartesia",
    "deepgram": "providers.tts.deepgram",
    "elevenlabs": "providers.tts.elevenlabs",
    "local": "providers.tts.local",
    "openai": "providers.tts.openai",
    "rime": "providers.tts.rime",
    "scripted": "providers.scripted",
}

ENTRY_POINTS = "agentd.providers"  # other packages add vendors here, as "stt.acme = acme_agentd.stt"


class Closable(Protocol):
    """Something that vendors share and that ends with the server."""

    async def aclose(self) -> None: ...


class UnknownVendor(LookupError):
    """No vendor has this name; the message lists the known ones."""


class Shared:
    """What vendors of one server share: connection pools, worker processes. Closed with the server."""

    def __init__(self) -> None:
        self._made: dict[str, Closable] = {}
        self._warm: set[str] = set()  # keys that were started, or failed to

    def get(self, key: str, make: Callable[[], T]) -> T:
        """The one object of this key; made when first asked for."""
        if key not in self._made:
            self._made[key] = make()
        return cast(T, self._made[key])

    async def warm(self) -> None:
        """Start what is new here, so that no call has to wait for it. Each is started once, so that a failure is told
        to whoever brought it and to nobody after.
        """
        for key, thing in list(self._made.items()):
            if key not in self._warm and (start := getattr(thing, "warm", None)):
                self._warm.add(key)
                await start()

    async def aclose(self) -> None:
        while self._made:
            _, thing = self._made.popitem()
            await thing.aclose()


def known(role: str) -> list[str]:
    """The vendor names of a role: ``stt``, ``llm`` or ``tts``."""
    builtin = {"stt": STT, "llm": LLM, "tts": TTS}[role]
    prefix = f"{role}."
    added = [ep.name.removeprefix(prefix) for ep in entry_points(group=ENTRY_POINTS) if ep.name.startswith(prefix)]
    return sorted({*builtin, *added})


def module(role: str, vendor: str) -> Any:
    """Import the module of a vendor. Raises :class:`UnknownVendor`; an SDK that is missing is an ``ImportError``."""
    builtin = {"stt": STT, "llm": LLM, "tts": TTS}[role]
    if vendor in builtin:
        return importlib.import_module(builtin[vendor])
    for ep in entry_points(group=ENTRY_POINTS, name=f"{role}.{vendor}"):
        return ep.load()
    raise UnknownVendor(f"expected {role} vendor to be one of {', '.join(known(role))}; got {vendor!r}")


def is_loaded(role: str, vendor: str) -> bool:
    """Has the vendor's module been imported, if it is one of ours?"""
    return {"stt": STT, "llm": LLM, "tts": TTS}[role].get(vendor, "") in sys.modules


def takes_lookup(role: str, vendor: str) -> bool:
    """Does all that the vendor dials go through the ``lookup`` of its spec? Raises as :func:`module` does."""
    return getattr(module(role, vendor), "TAKES_LOOKUP", False) is True


def make_stt(spec: SttSpec, shared: Shared) -> Stt:
    return cast(Stt, module("stt", spec.vendor).make_stt(spec, shared))


def make_llm(spec: LlmSpec, shared: Shared) -> Llm:
    return cast(Llm, module("llm", spec.vendor).make_llm(spec, shared))


def make_tts(spec: TtsSpec, shared: Shared) -> Tts:
    return cast(Tts, module("tts", spec.vendor).make_tts(spec, shared))
