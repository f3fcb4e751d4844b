"""The vendors of one call: made from the agent's configuration, each role in its order of preference."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from agentd.call import setup
from agentd.call.models import TRIES, Choice, Health
from agentd.call.recogniser import Recogniser
from agentd.call.voices import Voice
from agentd.ops.log import EventLog
from agentd.outbound.guard import Guard
from agentd.outbound.guard_vendors import lookup_for
from config.llm import Llm
from config.redirect import names_host
from config.server import Server
from config.speech import Recognizer, Synthesizer
from config.verb import Agent
from providers import registry
from providers.acoustic.base import AcousticSpec, EndOfTurnModel
from providers.acoustic.choose import choose
from providers.base import LlmSpec, Lookup, ProviderError, SttSpec, TtsSpec
from providers.credentials import SAME_ACCOUNT, from_environment, is_own_address
from providers.failures import Role
from providers.registry import Shared, UnknownVendor
from providers.tts.cached import SpeechCache, around

log = logging.getLogger("agentd.call.vendors")

T = TypeVar("T")
ROLES: tuple[Role, ...] = ("stt", "llm", "tts")
CLOSE = 3.0  # seconds that vendors have to let go of a call


@dataclass(slots=True)
class Vendors:
    """``voice_for`` gives the voices for a language (the verb's `languageConfig`), ``None`` where it names none;
    ``judge`` is the engine of the acoustic mode, ``None`` its built-in rule. ``made`` is all that serves this call.
    """

    stts: Sequence[Recogniser]
    models: Sequence[Choice]
    voices: Sequence[Voice]
    voice_for: Callable[[str], Sequence[Voice] | None]
    health: Health
    judge: EndOfTurnModel | None = None
    made: list[Any] = field(default_factory=list)

    def ready(self) -> None:
        """A turn is near: whatever its first request would wait for is dialled now. A plain call."""
        for vendor in self.made:
            if (ready := getattr(vendor, "ready", None)) is not None:
                try:
                    ready()
                except Exception as exc:  # the caller's audio is what calls this: nothing may stop that
                    log.warning("vendor cannot get ready", extra={"error": type(exc).__name__})

    async def warm(self) -> None:
        """When the server starts: pay for what the first call would pay for. Raises :class:`ProviderError`."""
        for vendor in self.made:
            if (warm := getattr(vendor, "warm", None)) is not None:
                await warm()

    async def aclose(self) -> None:
        """The call is over."""
        closing = [vendor.aclose() for vendor in self.made if hasattr(vendor, "aclose")]
        try:
            async with asyncio.timeout(CLOSE):
                results = await asyncio.gather(*closing, return_exceptions=True)
        except TimeoutError:
            log.warning("vendors let go of a call too slowly, left to themselves")
            return
        for error in results:
            if isinstance(error, Exception):
                log.warning("a vendor did not let go of a call", extra={"error": type(error).__name__})


def vendors(
    agent: Agent,
    server: Server,
    shared: Shared,
    rate: int,
    playback_rate: int,
    guard: Guard | None = None,
    roles: Collection[Role] = ROLES,
) -> Vendors:
    """``rate`` is that of the caller's audio inside, ``playback_rate`` that of ours, both in Hz. ``guard`` checks the
    addresses that came with the call; an agent as its file has it needs none. ``roles`` that are not named have nobody.

    Raises UnknownVendor, ImportError or ProviderError when a role has nobody: a vendor that cannot be had is left out,
    with a warning, as long as there is another.
    """
    made: list[Any] = []

    def lookup(role: Role, one: Recognizer | Llm | Synthesizer) -> Lookup | None:
        return None if guard is None else lookup_for(guard, role, one.vendor, one.given())

    def kept(vendor: T) -> T:
        made.append(vendor)
        return vendor

    def recogniser(stt: Recognizer) -> Recogniser:
        spec = replace(stt_spec(agent, stt, server, rate), lookup=lookup("stt", stt))
        return Recogniser(name_of(stt), kept(registry.make_stt(spec, shared)))

    def model(llm: Llm) -> Choice:
        retries = llm.connect_options.max_retries
        spec = replace(llm_spec(agent, llm, server), lookup=lookup("llm", llm))
        where = f"{spec.connect.get('baseURL', '')} {llm.label}"
        return Choice(kept(registry.make_llm(spec, shared)), TRIES if retries is None else retries + 1, where)

    def voice(tts: Synthesizer) -> Voice:
        spec = replace(tts_spec(tts, server, playback_rate), lookup=lookup("tts", tts))
        made_of_it = kept(registry.make_tts(spec, shared))
        return Voice(name_of(tts), made_of_it, around(made_of_it, spec, speech_cache(server, shared)))

    def voice_for(language: str) -> Sequence[Voice] | None:
        tts = agent.tts_for(language)
        return None if tts is agent.tts else _available(voice, with_fallback(tts))

    return Vendors(
        stts=_available(recogniser, with_fallback(agent.stt)) if "stt" in roles else [],
        models=_available(model, models_of(agent)) if "llm" in roles else [],
        voices=_available(voice, with_fallback(agent.tts)) if "tts" in roles else [],
        voice_for=voice_for,
        health=shared.get("health", Health),
        judge=choose(acoustic(agent, server), shared, rate) if setup.is_acoustic(agent) else None,
        made=made,
    )


def failed(events: EventLog, role: Role) -> Callable[[str, ProviderError, str], None]:
    """Who tells of a vendor's failure, and what is tried then (empty: nothing): to the call's log, and to ours."""

    def tell(name: str, error: ProviderError, then: str) -> None:
        events.append("vendor_failed", role=role, vendor=name, code=error.code, then=then)
        why = {"code": error.code, "why": error.message}
        log.warning("vendor failed", extra={"role": role, "vendor": name, **why, "then": then or "nothing"})

    return tell


def load(agents: Iterable[Agent]) -> None:
    """Import the vendors that agents name: this takes up to a second for some SDKs, and may be done on a thread.
    What cannot be imported is told when it is asked for.
    """
    for role, vendor in {pair for agent in agents for pair in named(agent)}:
        with contextlib.suppress(UnknownVendor, ImportError):
            registry.module(role, vendor)


def is_loaded(agent: Agent) -> bool:
    return all(registry.is_loaded(role, vendor) for role, vendor in named(agent))


def named(agent: Agent) -> Iterator[tuple[str, str]]:
    """The role and name of each vendor of an agent."""
    yield from (("stt", stt.vendor) for stt in with_fallback(agent.stt))
    yield from (("llm", llm.vendor) for llm in models_of(agent))
    for voice in (agent.tts, *(entry.tts for entry in agent.language_config.values() if entry.tts.vendor)):
        yield from (("tts", tts.vendor) for tts in with_fallback(voice))


# What each is asked for -------------------------------------------------------------------------------------


def stt_spec(agent: Agent, stt: Recognizer, server: Server, rate: int) -> SttSpec:
    return SttSpec(
        vendor=stt.vendor,
        language=stt.language or "en-US",
        rate=rate,
        model=stt.model,
        languages=tuple(stt.alt_languages),
        hints=setup.hints(agent, stt),
        ends_turns=not setup.is_acoustic(agent),
        options=stt.vendor_options(),
        credentials=account(server, stt.vendor, stt.label, stt.auth, stt.given()),
    )


def llm_spec(agent: Agent, llm: Llm, server: Server) -> LlmSpec:
    options = llm.llm_options
    named = {
        "maxTokens": options.max_tokens,
        "temperature": options.temperature,
        "reasoningEffort": options.reasoning_effort,
        "vendorParams": (agent.params() if llm is agent.llm else llm.params()) or None,
    }
    connect = llm.connect_options.model_dump(by_alias=True, exclude_none=True)
    elsewhere = {k: v for k, v in connect.items() if k != "baseURL" or not is_own_address(llm.vendor, v)}
    mine = account(server, llm.vendor, llm.label, llm.auth, elsewhere)
    # The server's key goes only where the server's configuration says, never to an address that came with a call
    # (config.metadata refuses those that bring no key of their own).
    if "baseURL" in mine:
        connect.setdefault("baseURL", mine["baseURL"])
    return LlmSpec(
        vendor=llm.vendor,
        model=llm.model,
        options={key: value for key, value in named.items() if value is not None},
        connect=connect,
        credentials=mine,
    )


def tts_spec(tts: Synthesizer, server: Server, rate: int) -> TtsSpec:
    engine = {"engine": tts.engine} if tts.engine else {}
    return TtsSpec(
        vendor=tts.vendor,
        voice=tts.voice,
        model=tts.model,
        language=tts.language or "en-US",
        rate=rate,
        options={**engine, **tts.options},
        credentials=account(server, tts.vendor, tts.label, tts.auth, tts.given()),
    )


def account(
    server: Server, vendor: str, label: str, auth: Mapping[str, Any], given: Mapping[str, Any]
) -> Mapping[str, Any]:
    """The credentials for a vendor: the verb's own ``auth``, else the server's by vendor and label, else the
    environment's. The environment's key is for the vendor's own address: not for one that the agent names (``given``).
    """
    if auth:
        return auth
    mine = server.credential(vendor, label) or server.credential(SAME_ACCOUNT.get(vendor, vendor), label)
    if mine or label or names_host(given):
        return mine
    return from_environment(vendor)


def speech_cache(server: Server, shared: Shared) -> SpeechCache | None:
    config = server.speech_cache
    if not config.enable or (folder := config.folder()) is None:
        return None
    return shared.get("speech-cache", lambda: SpeechCache(folder, config.megabytes * 1_000_000))


def acoustic(agent: Agent, server: Server) -> AcousticSpec:
    """What the acoustic mode is to run on: what is named, else the best that is there (verb-decisions)."""
    krisp = server.credential("krisp")
    return AcousticSpec(
        engine=server.turn.engine,
        model=agent.turn_detection.model,
        krisp_model=krisp.get("modelPath"),
        krisp_key=krisp.get("apiKey"),
        smart_turn_model=server.turn.smart_turn.model_path,
    )


# Who is there --------------------------------------------------------------------------------------------------

S = TypeVar("S", Recognizer, Synthesizer)
U = TypeVar("U", Recognizer, Llm, Synthesizer)


def with_fallback(first: S) -> list[S]:
    """Recognisers or voices in the order of preference."""
    second = first.fallback()
    return [first] if second is None else [first, second]


def models_of(agent: Agent) -> list[Llm]:
    """Models in the order of preference."""
    return [agent.llm, *(fallback.model_of(agent.llm) for fallback in agent.llm.fallback)]


def name_of(one: Recognizer | Synthesizer) -> str:
    """What logs and events call it."""
    return f"{one.vendor}:{one.label}" if one.label else one.vendor


def _available(make: Callable[[U], T], specs: Iterable[U]) -> list[T]:
    """Those that can be made. Raises what the first one raised when none can."""
    found: list[T] = []
    failed: list[Exception] = []
    for spec in specs:
        try:
            found.append(make(spec))
        except (ProviderError, UnknownVendor, ImportError) as exc:
            failed.append(exc)
    if not found:
        raise failed[0]
    for error in failed:
        log.warning("vendor left out", extra={"why": str(error)})
    return found
