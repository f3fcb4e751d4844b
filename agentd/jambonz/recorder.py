"""What is heard and sent in a call is kept, with its log, while an agent has the call whose calls are recorded.

The path of the audio only puts pieces aside. Once a second they go to the worker thread (:mod:`agentd.jambonz.tape`),
which does all the rest.
"""

import asyncio
import enum
import logging
import time

from agentd.call.audio import inner_rate
from agentd.jambonz.pieces import Heard, Sent
from agentd.jambonz.tape import Block, Tape
from agentd.jambonz.taps import Tap
from agentd.jambonz.wire import CallInfo
from agentd.ops.log import Entry, EventLog
from agentd.ops.recording_files import About
from agentd.ops.recordings import Recordings
from agentd.ops.registry import account_of, proof_of

log = logging.getLogger("agentd.recordings")

EVERY = 1.0  # seconds between two blocks: so much, and what is not certain yet, is lost with a process that is killed
EARLY = 5.0  # seconds before the first agent that are recorded as well: it is given what the caller said in them
CLOSE = 5.0  # seconds that the end of a call waits for a slow disk


class State(enum.Enum):
    """::

        BEFORE ──an agent that is recorded──> ON ──one that is not──> OFF
           │                                  └<──one that is────────┘│
           └────────────────────one that is not──────────────────────>┘

    and from each to OVER, when the call ends or the disk fails.
    """

    BEFORE = enum.auto()  # no agent yet: the last seconds are in memory, and nowhere else
    ON = enum.auto()
    OFF = enum.auto()  # silence, and no entries: an application may have the caller's card number taken like that
    OVER = enum.auto()


class Recorder:
    """A :class:`agentd.jambonz.taps.Tap` of one call, from its beginning; ``agent`` is the name of its agent and
    ``playback_rate`` that of our audio in Hz. A second in the recording is a second of the log's ``at``. Nothing in
    here waits but :meth:`aclose`, and nothing fails: what cannot be written is told in the log, and the call goes on.
    """

    def __init__(
        self, recordings: Recordings, agent: str, info: CallInfo, playback_rate: int, taps: list[Tap], log: EventLog
    ) -> None:
        self._recordings = recordings
        account, since = account_of(info.metadata), time.time() - log.now()
        proof, self._rate = proof_of(info.metadata), inner_rate(info.rate)
        self._about = About(info.call_sid, account, agent, round(since, 3), self._rate, proof)
        self._info = info
        self._playback_rate = playback_rate
        self._taps = taps
        self._log = log
        self._state = State.BEFORE
        self._tape: Tape | None = None  # once it was on
        self._heard = Heard(info.rate, info.channels)
        self._sent = Sent(playback_rate)
        self._entries: list[Entry] = []  # not written yet
        self._end: float | None = None  # when the call ended
        self._timer: asyncio.TimerHandle | None = None
        taps.append(self)
        self._tick()

    # What the call says ----------------------------------------------------------------------------------

    def agent_begins(self, *, is_recorded: bool) -> None:
        """Another agent has the call, from now on and until the next one begins, whatever is said between them. One
        that is not recorded leaves silence and no entries; with a later one that is, the same recording goes on.
        """
        now = self._log.now()
        match self._state:
            case State.BEFORE | State.OFF if is_recorded:
                self._go_on(now)
            case State.BEFORE | State.ON if not is_recorded:
                self._pause(now)
            case _:
                pass

    def stop(self) -> None:
        """The call is over: nothing more is heard or sent. There may still be entries."""
        if self._end is None:
            self._end = self._log.now()
            self._hand_over(self._end)
            self._deafen()

    async def aclose(self) -> None:
        """The last entry is in the log. Returns when the recording is whole, if the disk is not too slow for that."""
        self.stop()
        done = self._hand_over(self._log.now(), is_last=True)
        self._over()
        if done is not None:
            await asyncio.wait([done], timeout=CLOSE)

    # What the line tells ---------------------------------------------------------------------------------

    def heard(self, data: bytes) -> None:
        if self._state is not State.OFF:
            self._heard.add(data, self._log.now())

    def sent(self, pcm: bytes) -> None:
        self._sent.add(pcm, self._log.now())
        if self._state is State.OFF:
            self._sent.clear()  # what is sent next plays behind it

    def killed(self) -> None:
        self._sent.killed(self._log.now())

    # Within ----------------------------------------------------------------------------------------------

    def _go_on(self, now: float) -> None:
        if self._state is State.BEFORE:
            self._entries = self._log.entries[:]
        if self._tape is None:
            begins = max(min(self._heard.begins(now), self._sent.begins(now)), 0.0)
            rates = {"rate": self._info.rate, "playback_rate": self._playback_rate}
            self._tape = Tape(
                self._recordings.folder, self._about, **rates, channels=self._info.channels, begins=begins
            )
            self._log.subscribe(self._logged)
        self._state = State.ON
        self._log.append("recording", rate=self._rate, channels=2)

    def _pause(self, now: float) -> None:
        if self._state is State.ON:
            self._log.append("recording_paused")
            self._hand_over(now, is_cut=True)
        self._clear()
        if self._state is not State.OVER:
            self._state = State.OFF

    def _logged(self, entry: Entry) -> None:
        if self._state is State.ON:
            self._entries.append(entry)

    def _tick(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(EVERY, self._tick)
        now = self._log.now()
        if self._state is State.BEFORE:
            self._heard.forget(now - EARLY)
            self._sent.forget(now - EARLY)
        else:
            self._hand_over(now)

    def _hand_over(self, now: float, *, is_cut: bool = False, is_last: bool = False) -> asyncio.Future[None] | None:
        if self._tape is None or self._state is State.OVER:
            return None
        end = now if self._end is None else min(now, self._end)
        heard = self._heard.taken(end, is_last=is_cut or self._end is not None)
        until = end if is_cut or self._end is not None else self._heard.until(end)
        entries, self._entries = self._entries, []
        block = Block(heard, self._sent.taken(end), entries, until, is_last)
        tape = self._tape
        done = self._recordings.put(lambda: tape.write(block), block.size)
        if done is None:
            self._give_up("it could not be written in time")
        else:
            done.add_done_callback(self._written)
        return done

    def _written(self, done: asyncio.Future[None]) -> None:
        if done.cancelled() or (exc := done.exception()) is None:
            return
        if not isinstance(exc, OSError):
            log.error("recording crashed", exc_info=exc)
        self._give_up(getattr(exc, "strerror", None) or type(exc).__name__)

    def _give_up(self, why: str) -> None:
        """Once."""
        if self._tape is None:
            return
        self._tape = None
        self._over()
        log.warning("recording given up: the call goes on", extra={"call_sid": self._info.call_sid, "why": why})
        self._log.append("recording_failed", why=why)

    def _over(self) -> None:
        self._state = State.OVER
        self._deafen()
        if self._timer is not None:
            self._timer.cancel()

    def _deafen(self) -> None:
        if self in self._taps:
            self._taps.remove(self)
        self._clear()

    def _clear(self) -> None:
        self._heard.clear()
        self._sent.clear()
