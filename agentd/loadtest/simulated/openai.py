"""OpenAI's chat completions as server-sent events: the first token after a set time, then one every so often."""

import asyncio
import itertools
import json
import re
from typing import cast

from agentd.loadtest.simulated import Delays
from agentd.loadtest.simulated.clock import Clock

LONGEST_HEAD = 65_536  # bytes
# They begin with one to three words that can be said at once, as prompts for voice ask of a model.
ANSWERS = (
    "Sure. We are open from ten to six, and on Sundays we close an hour earlier, so come in good time.",
    "Of course. The table by the window is free from seven, and it has a view of the harbour.",
    "That is right. There are three of them, each has its own garden, and the largest one is by the river.",
    "Let me see. It is on the second floor, next to the library, and the lift is to your left when you come in.",
    "Certainly. I have put you down for ten in the morning, and you will get a message the day before.",
    "Good question. For two grown-ups and two children it is forty, and the little ones come in for nothing.",
)

_HEAD = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1790000000, "model": "simulated"}
_OPENING = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"


def _part(body: bytes) -> bytes:
    """Of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(body), body)


def _event(choices: list[object], usage: object = None) -> bytes:
    data = {**_HEAD, "choices": choices, "usage": usage}
    return b"data: " + json.dumps(data, separators=(",", ":")).encode() + b"\n\n"


def _delta(text: str) -> dict[str, object]:
    return {"index": 0, "delta": {"content": text}, "logprobs": None, "finish_reason": None}


def _stream(answer: str) -> tuple[bytes, ...]:
    """One part for each token, the head of the response before the first, the end of it as the last."""
    tokens = re.findall(r" ?\w+|[^\w]", answer)
    role = {"index": 0, "delta": {"role": "assistant", "content": ""}, "logprobs": None, "finish_reason": None}
    finish = {"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"}
    usage = {"prompt_tokens": 9, "completion_tokens": len(tokens), "total_tokens": len(tokens) + 9}
    parts = [_event([_delta(token)]) for token in tokens]
    last = _event([finish]) + _event([], usage) + b"data: [DONE]\n\n"
    return (_OPENING + _part(_event([role]) + parts[0]), *map(_part, parts[1:]), _part(last) + b"0\r\n\r\n")


STREAMS = [_stream(answer) for answer in ANSWERS]
CONNECTIONS = itertools.count()
MODELS = b'{"object":"list","data":[]}'


class Model(asyncio.Protocol):
    """One connection. A client that is gone is not answered to the end."""

    def __init__(self, delays: Delays, clock: Clock) -> None:
        self._delays = delays
        self._clock = clock
        self._buffer = b""
        self._asked = 0
        self._timer: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._asked = next(CONNECTIONS)  # calls need not say the same in the same turn

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = self._buffer[:end].decode("latin-1").lower()
            found = re.search(r"\r\ncontent-length: *(\d+)", head)
            size = end + 4 + (int(found[1]) if found else 0)
            if len(self._buffer) < size:
                return
            self._buffer = self._buffer[size:]
            self._answer(is_prompt=head.startswith("post"))
        if len(self._buffer) > LONGEST_HEAD:
            self._transport.abort()

    def _answer(self, *, is_prompt: bool) -> None:
        if not is_prompt:
            head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(MODELS)}\r\n\r\n"
            self._transport.write(head.encode() + MODELS)
            return
        stream = STREAMS[self._asked % len(STREAMS)]
        self._asked += 1
        due = self._clock.now() + self._delays.llm
        self._timer = self._clock.at(due, self._say, stream, 0, due)

    def _say(self, stream: tuple[bytes, ...], at: int, due: float) -> None:
        """The next token, and those whose time has come meanwhile."""
        end, now = at + 1, self._clock.now()
        while end < len(stream) and due + self._delays.token <= now:
            due += self._delays.token
            end += 1
        self._transport.write(b"".join(stream[at:end]))
        self._timer = None
        if end < len(stream):
            due += self._delays.token
            self._timer = self._clock.at(due, self._say, stream, end, due)
