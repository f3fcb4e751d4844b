"""The audio of one accepted socket, and what is plugged into it: an agent, or an application's own words."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any

from agentd.call import vendors
from agentd.call.audio import Framer, inner_rate
from agentd.call.call import Call
from agentd.call.ear import Detector, Ear
from agentd.call.hearing import EarFor
from agentd.call.isolation import isolate_with
from agentd.call.outside import Outside
from agentd.call.vendors import Vendors
from agentd.jambonz.outbox import Outbox
from agentd.jambonz.recorder import Recorder
from agentd.jambonz.stage import Listener, Stage
from agentd.jambonz.wire import CallInfo
from agentd.ops.log import EventLog
from agentd.ops.usage import Meter
from agentd.outbound.guard import Guard
from config.server import Server
from config.verb import Agent
from providers.audio_feed import AudioFeed
from providers.failures import Role
from providers.registry import Shared
from turn.speech import Segmenter

SPEECH_STOP = 0.3  # seconds of quiet that end a stretch of speech


@dataclass(frozen=True, slots=True, eq=False)
class Line:
    """``playback_rate`` is that of our audio in Hz; the caller's is in ``info``. ``detector_for`` makes a voice
    detector for a rate. One thing at a time is plugged into it.
    """

    server: Server
    shared: Shared
    guard: Guard
    port: Outbox
    info: CallInfo
    playback_rate: int
    detector_for: Callable[[int], Detector]
    log: EventLog
    meter: Meter = field(default_factory=Meter)
    recorder: Recorder | None = None  # of a call that may be recorded

    @property
    def rate(self) -> int:
        """That of the caller's audio inside, in Hz."""
        return inner_rate(self.info.rate)

    def call(self, agent: Agent, outside: Outside) -> Call:
        """Raises what :func:`vendors.vendors` raises."""
        return Call(
            agent,
            self.vendors(agent),
            self.port,
            rate=self.rate,
            playback_rate=self.playback_rate,
            ear_for=self._ear_for(agent),
            isolate=isolate_with(self.server, self.shared),
            event_names=self.server.events.names,
            outside=outside,
            log=self.log,
            meter=self.meter,
        )

    def stage(self, agent: Agent, listener: Listener) -> Stage:
        return Stage(
            agent,
            self.port,
            rate=self.rate,
            playback_rate=self.playback_rate,
            ear_for=self._ear_for(agent),
            isolate=isolate_with(self.server, self.shared),
            log=self.log,
            listener=listener,
            meter=self.meter,
        )

    def vendors(self, agent: Agent, roles: Collection[Role] = vendors.ROLES) -> Vendors:
        """Those of an agent; only some ``roles``, if named."""
        return vendors.vendors(agent, self.server, self.shared, self.rate, self.playback_rate, self.guard, roles)

    def _ear_for(self, agent: Agent) -> EarFor:
        def ear_for(feed: AudioFeed, tell: Any) -> Ear:
            segmenter = Segmenter(confirm=agent.barge_in.min_speech_duration, stop=SPEECH_STOP)
            framer = Framer(self.info.rate, self.info.channels)
            return Ear(framer, self.detector_for(self.rate), segmenter, feed, tell)

        return ear_for
