"""The instants of one turn, and from them the parts of the gap that the caller felt.

The parts follow one another without overlap, so that they add up to the total:

    caller stops ─ stt ─ final transcript ─ eot ─ end of turn ─ llm + tool ─ first token
    ─ text ─ first text to the TTS ─ tts ─ first audio back ─ playout ─ first audio heard

The guide names stt, eot, llm, tool and tts; text (the wait for a speakable piece), playout and total are ours.
"""

from dataclasses import dataclass

from turn.events import AudioArrived, ReplyBegan, ReplyEvent, ReplyHeard, SynthesisBegan, ToolsCalled, ToolsReturned


@dataclass(frozen=True, slots=True)
class Latency:
    """Parts of one turn in seconds; ``None`` where a part does not exist (a greeting has no stt)."""

    stt: float | None = None
    eot: float | None = None
    llm: float | None = None
    tool: float | None = None
    text: float | None = None
    tts: float | None = None
    playout: float | None = None
    total: float | None = None


@dataclass(slots=True)
class TurnClock:
    """Collects the instants of a turn (loop seconds). An instant is set once; later ones are ignored."""

    stopped: float | None = None
    finished: float | None = None  # the final transcript
    taken: float | None = None  # the end of the turn: the model is prompted
    began: float | None = None  # the first token that is spoken
    synthesis: float | None = None
    audio: float | None = None
    heard: float | None = None
    is_hit: bool = False  # a speculation's words were at hand when the turn ended: the model cost nothing
    _tools_since: float | None = None
    _tools: float = 0.0

    def told(self, event: ReplyEvent, now: float) -> None:
        """An event of the turn's reply."""
        match event:
            case ReplyBegan():
                if self.began is None and self._tools_since is not None:
                    self._tools += now - self._tools_since  # words that fill the wait for a tool end the caller's gap
                self.mark("began", now)
            case ToolsCalled():
                self.tools_called(now)
            case ToolsReturned():
                self.tools_returned(now)
            case SynthesisBegan():
                self.mark("synthesis", now)
            case AudioArrived():
                self.mark("audio", now)
            case ReplyHeard():
                self.mark("audio", now)
                self.mark("heard", now)
            case _:
                pass

    def mark(self, instant: str, now: float) -> None:
        if getattr(self, instant) is None:
            setattr(self, instant, now)

    @property
    def has_tools(self) -> bool:
        """Are tools running?"""
        return self._tools_since is not None

    def tools_called(self, now: float) -> None:
        if self._tools_since is None:
            self._tools_since = now

    def tools_returned(self, now: float) -> None:
        """Tool time after the first token is not in the caller's gap, so it is not a part of it."""
        if self._tools_since is not None:
            if self.began is None:
                self._tools += now - self._tools_since
            self._tools_since = None

    def latency(self) -> Latency:
        """The parts known so far. A transcript that came before the caller stopped costs nothing; where the turn was
        taken without a final one, the whole wait is ``eot``.
        """
        start = at = self.stopped if self.stopped is not None else self.taken

        def part(end: float | None) -> float | None:
            """From the end of the part before this one: whatever is missing or out of order, the sum is right."""
            nonlocal at
            if at is None or end is None:
                return None
            begin, at = at, max(at, end)
            return at - begin

        finished = self.finished if self.stopped is not None else None
        if finished is not None and self.taken is not None:
            finished = min(finished, self.taken)
        stt = part(finished)
        eot = part(self.taken)
        llm = part(self.began)
        tool = None if llm is None else min(self._tools, llm)
        return Latency(
            stt=stt,
            eot=eot or None,
            llm=None if llm is None or self.is_hit else llm - (tool or 0.0),
            tool=tool or None,
            text=part(self.synthesis) or None,
            tts=part(self.audio),
            playout=part(self.heard),
            total=None if start is None or self.heard is None or at is None else at - start,
        )
