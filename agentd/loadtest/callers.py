"""So many calls at a time: dialled one after the other, and again when one is over."""

import asyncio
import contextlib
import itertools
import random
from collections.abc import Callable, Iterator, Sequence

from agentd.loadtest.metronome import Metronome
from agentd.loadtest.phone import Phone, Target
from agentd.loadtest.talk import Plan, Talk, Turn
from agentd.loadtest.timing import clock
from agentd.loadtest.voice import Utterance
from agentd.loadtest.websocket import BINARY, masked_frame

AGAIN = 1.0  # seconds after a refusal, before the caller dials again
LAST = 3.0  # seconds for the last closes


class Callers:
    """``ended`` gets the turns as they end, ``over`` every call that is over, ``began`` the id of each that is up.
    ``wanted`` is how many are to be.
    """

    def __init__(
        self,
        target: Target,
        voice: Sequence[Utterance],
        plan: Plan,
        *,
        ended: Callable[[Turn], None],
        over: Callable[[Phone], None],
        began: Callable[[str], None] = lambda call_sid: None,
        seed: int = 1,
    ) -> None:
        self.wanted = 0
        self.dialled = 0
        self.phones: dict[int, Phone] = {}
        self.metronome = Metronome()
        self._target = target
        # Frames of the websocket instead of frames of audio: masked once.
        self._voice = [Utterance(tuple(masked_frame(frame, BINARY) for frame in each.frames)) for each in voice]
        self._plan = plan
        self._ended = ended
        self._over = over
        self._began = began
        self._chance = random.Random(seed)
        self._numbers = itertools.count()
        self._not_before = 0.0
        self._now = clock()
        self._dialling: set[asyncio.Task[None]] = set()
        self._empty = asyncio.Event()  # the last call is over

    @property
    def up(self) -> int:
        """Calls that are talking."""
        return sum(phone.talk is not None for phone in self.phones.values())

    def unfinished(self) -> Iterator[Turn]:
        """Turns whose answer has come, or is overdue, but whose reply still plays."""
        for phone in self.phones.values():
            if phone.talk is not None and phone.talk.turn is not None and phone.talk.turn.is_over:
                yield phone.talk.turn

    async def ramp(self, wanted: int, seconds: float) -> None:
        """Have so many calls, evenly over ``seconds``."""
        missing = wanted - self.wanted
        began = self._now()
        for number in range(1, missing + 1):
            self.wanted += 1
            self._one_more()
            await asyncio.sleep(max(began + seconds * number / missing - self._now(), 0.0))
        self.wanted = wanted

    async def keep(self) -> None:
        """Dial again for calls that are over, until cancelled."""
        while True:
            await asyncio.sleep(0.05)
            if len(self.phones) < self.wanted and self._now() >= self._not_before:
                self._one_more()

    async def hang_up(self) -> None:
        """All of them."""
        self.wanted = 0
        for task in self._dialling:
            task.cancel()
        await asyncio.gather(*self._dialling, return_exceptions=True)
        for phone in list(self.phones.values()):
            phone.hang_up()
        self._empty.clear()
        if self.phones:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LAST):
                    await self._empty.wait()
        for phone in list(self.phones.values()):
            phone.abort()

    def _one_more(self) -> None:
        number = next(self._numbers)

        def talk(now: float) -> Talk:
            self.metronome.add(number, phone.tick)
            self._began(phone.call_sid)
            return Talk(self._voice, self._plan, random.Random(self._chance.random()), self._ended, now)

        def over(phone: Phone) -> None:
            self.metronome.remove(number)
            self.phones.pop(number, None)
            if phone.end.is_refused:
                self._not_before = self._now() + AGAIN
            if not self.phones:
                self._empty.set()
            self._over(phone)

        phone = Phone(self._target, talk, over)
        self.phones[number] = phone
        self.dialled += 1
        task = asyncio.create_task(phone.dial(), name="load-dial")
        self._dialling.add(task)
        task.add_done_callback(self._dialling.discard)
