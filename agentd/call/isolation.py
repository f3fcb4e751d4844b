"""Noise isolation of one call: which engine works in which direction, and the switch in mid-call."""

import logging
from collections.abc import Callable, Mapping
from typing import Any, Literal

from agentd.call.sender import Sender
from config.check import check
from config.conversation import NoiseIsolation
from config.problems import dotted
from config.server import Server
from providers.base import ProviderError
from providers.noise import choose
from providers.noise.base import Guarded, Isolation, NoiseSpec
from providers.noise.inplace import InPlace
from providers.registry import Shared

log = logging.getLogger("agentd.call.isolation")

DEFAULT = "krisp"  # jambonz's own, where a command names no vendor

Isolate = Callable[[NoiseIsolation, int], Guarded]
"""Makes an engine for audio at a rate, in Hz. Raises ``ProviderError``."""


def isolate_with(server: Server, shared: Shared) -> Isolate:
    def isolate(wanted: NoiseIsolation, rate: int) -> Guarded:
        krisp = {**server.credential("krisp", wanted.label), **wanted.auth}
        spec = NoiseSpec(
            mode=wanted.mode,
            level=wanted.level,
            model=wanted.model,
            krisp_model=krisp.get("noiseModelPath"),
            krisp_key=krisp.get("apiKey"),
        )
        return choose.make(spec, shared, rate)

    return isolate


class NoiseSwitch:
    """``hearing`` takes the engine of the caller's audio, at ``rate`` Hz. An engine that cannot be had is a warning:
    the call goes on with what it has.
    """

    def __init__(
        self,
        isolate: Isolate,
        wanted: NoiseIsolation | None,
        *,
        hearing: Callable[[Isolation | None], None],
        rate: int,
        sender: Sender,
    ) -> None:
        self._isolate = isolate
        self._hearing = hearing
        self._rate = rate
        self._sender = sender
        self._wanted = wanted  # last, even if it is off now
        self._engine: Guarded | None = None
        if wanted is not None:
            self._turn_on(wanted)

    def told(self, data: Mapping[str, Any]) -> None:
        """The data of the command `noiseIsolation:status`."""
        try:
            wanted = asked(data, self._wanted)
        except ValueError as exc:
            log.warning("noise isolation stays as it is", extra={"why": str(exc)})
            return
        if wanted is None:
            self._turn_off()
        else:
            self._turn_on(wanted)

    def close(self) -> None:
        if self._engine is not None:
            self._engine.close()

    def _turn_on(self, wanted: NoiseIsolation) -> None:
        if self._engine is not None and self._engine.works and _is_same(wanted, self._wanted):
            self._engine.level = wanted.level
            self._wanted = wanted
            return
        try:
            engine = self._isolate(wanted, self._rate if wanted.direction == "read" else self._sender.rate)
        except ProviderError as exc:
            log.warning("no noise isolation", extra={"mode": wanted.mode, "code": exc.code, "why": exc.message})
            return
        self._turn_off()
        self._engine, self._wanted = engine, wanted
        self._plug(wanted.direction, engine)
        log.info("noise isolation", extra={"engine": engine.name, "direction": wanted.direction})

    def _turn_off(self) -> None:
        if self._engine is None or self._wanted is None:
            return
        self._plug(self._wanted.direction, None)
        self._engine.close()
        self._engine = None

    def _plug(self, direction: Literal["read", "write"], engine: Guarded | None) -> None:
        if direction == "read":
            self._hearing(engine)
        else:
            self._sender.isolate(None if engine is None else InPlace(engine, self._sender.rate))


def asked(data: Mapping[str, Any], last: NoiseIsolation | None) -> NoiseIsolation | None:
    """What a command asks for; ``None`` is off. What it leaves out is as it was ``last``. Raises ``ValueError``.

    The REST call writes `noise_isolation_vendor`, jambonz's SDKs `vendor`; the Python one's status is `on` or `off`.
    """
    status = _first(data, "noise_isolation_status", "noiseIsolation_status", "status")
    if status in ("disable", "off"):
        return None
    if status not in ("enable", "on"):
        raise ValueError(f"expected noise_isolation_status enable or disable, got {status!r}")
    given = {
        "mode": _first(data, "noise_isolation_vendor", "vendor"),
        "level": _first(data, "noise_isolation_level", "level"),
        "model": _first(data, "noise_isolation_model", "model"),
    }
    named = {key: value for key, value in given.items() if value is not None}
    kept: dict[str, Any] = {"mode": DEFAULT} if last is None else last.given()
    if named.get("mode", kept["mode"]) != kept["mode"]:  # the model and key of another engine are none of this one's
        kept = {key: kept[key] for key in ("direction", "level") if key in kept}
    made = check(NoiseIsolation, {**kept, **named})
    if isinstance(made, NoiseIsolation):
        return made
    raise ValueError("; ".join(f"{dotted(fault.path)}: {fault}" for fault in made))


def _first(data: Mapping[str, Any], *names: str) -> Any:
    return next((data[name] for name in names if data.get(name) is not None), None)


def _is_same(one: NoiseIsolation, other: NoiseIsolation | None) -> bool:
    """But for the level."""
    return other is not None and one.model_copy(update={"level": other.level}) == other
