"""The stand-in behind OpenAI's protocol on loopback, so that it exercises the client, the stream and the tool loop
that a real model would. The answers themselves are :mod:`providers.standin`'s.
"""

import asyncio
import contextlib
import json
import re
import socket
from collections.abc import AsyncIterator, Iterator
from typing import Any

import uvicorn
from pydantic import BaseModel, ValidationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from providers.base import Message, Tool, ToolCall
from providers.standin import MODEL, Call, Say, answer

# From the wire --------------------------------------------------------------------------------------------


class WireFunction(BaseModel):
    name: str
    arguments: str = "{}"
    description: str = ""
    parameters: dict[str, Any] = {}


class WireCall(BaseModel):
    id: str
    function: WireFunction


class WireMessage(BaseModel):
    role: str
    content: str | list[dict[str, Any]] | None = None
    tool_calls: list[WireCall] = []
    tool_call_id: str | None = None


class WireTool(BaseModel):
    function: WireFunction


class WireRequest(BaseModel):
    """The part of OpenAI's request that the rules look at, and ``token_delay_ms``, an extra of ours: a wait before
    each word, to try agentd with a slow model (``vendorParams: {token_delay_ms: 50}``).
    """

    messages: list[WireMessage]
    tools: list[WireTool] = []
    stream: bool = False
    stream_options: dict[str, Any] | None = None
    token_delay_ms: float = 0


def from_wire(request: WireRequest) -> tuple[list[Message], list[Tool]]:
    roles: dict[str, Any] = {"developer": "system"}
    messages = [
        Message(
            roles.get(m.role, m.role),
            m.content if isinstance(m.content, str) else " ".join(str(p.get("text", "")) for p in m.content or ()),
            tuple(ToolCall(call.id, call.function.name, call.function.arguments) for call in m.tool_calls),
            m.tool_call_id,
        )
        for m in request.messages
    ]
    tools = [Tool(t.function.name, t.function.description, t.function.parameters) for t in request.tools]
    return messages, tools


# To the wire ----------------------------------------------------------------------------------------------


def pieces(said: Say | Call, id_: str) -> Iterator[dict[str, Any]]:
    """The deltas of an answer: word by word, or a call's name and then its arguments in two pieces, as models do."""
    if isinstance(said, Say):
        for word in re.findall(r"\S+\s*", said.text):
            yield {"content": word}
        return
    arguments = json.dumps(said.arguments)
    middle = len(arguments) // 2
    function = {"name": said.name, "arguments": ""}
    yield {"tool_calls": [{"index": 0, "id": id_, "type": "function", "function": function}]}
    for piece in (arguments[:middle], arguments[middle:]):
        yield {"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}


def usage(request: WireRequest, said: Say | Call) -> dict[str, int]:
    """Words counted as tokens, and labelled so by the model's name."""
    asked = sum(len(message.content.split()) for message in from_wire(request)[0])
    answered = sum(1 for _ in pieces(said, ""))
    return {"prompt_tokens": asked, "completion_tokens": answered, "total_tokens": asked + answered}


def finish_reason(said: Say | Call) -> str:
    return "stop" if isinstance(said, Say) else "tool_calls"


async def stream(request: WireRequest, said: Say | Call, number: int) -> AsyncIterator[str]:
    head = {"id": f"standin-{number}", "object": "chat.completion.chunk", "created": 0, "model": MODEL}

    def event(choices: list[dict[str, Any]], **more: Any) -> str:
        return f"data: {json.dumps({**head, 'choices': choices, **more})}\n\n"

    for delta in pieces(said, f"call_standin_{number}"):
        if request.token_delay_ms > 0:
            await asyncio.sleep(min(request.token_delay_ms, 5000) / 1000)
        yield event([{"index": 0, "delta": delta, "finish_reason": None}])
    yield event([{"index": 0, "delta": {}, "finish_reason": finish_reason(said)}])
    if (request.stream_options or {}).get("include_usage"):
        yield event([], usage=usage(request, said))
    yield "data: [DONE]\n\n"


def whole(request: WireRequest, said: Say | Call, number: int) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": said.text if isinstance(said, Say) else None}
    if isinstance(said, Call):
        function = {"name": said.name, "arguments": json.dumps(said.arguments)}
        message["tool_calls"] = [{"id": f"call_standin_{number}", "type": "function", "function": function}]
    choice = {"index": 0, "message": message, "finish_reason": finish_reason(said)}
    head = {"id": f"standin-{number}", "object": "chat.completion", "created": 0, "model": MODEL}
    return {**head, "choices": [choice], "usage": usage(request, said)}


# The server -----------------------------------------------------------------------------------------------


class _Uvicorn(uvicorn.Server):
    """uvicorn inside somebody else's loop: the signals are not ours to take."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class StandinServer:
    """One server on 127.0.0.1 and a port of its own; ``url`` is known at once.

    The socket listens from the first moment, so whoever connects before uvicorn is up waits in its backlog.
    """

    def __init__(self) -> None:
        # The protocol is spelled out because asyncio sets TCP_NODELAY only on sockets that name it: without, Nagle and
        # delayed acknowledgements put 40 ms before the first token of a new connection.
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.listen()
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}/v1"
        self._answered = 0
        routes = [
            Route("/v1/chat/completions", self._completions, methods=["POST"]),
            Route("/v1/models", self._models),
        ]
        config = uvicorn.Config(
            Starlette(routes=routes),
            log_config=None,  # the process has set up its logs
            access_log=False,
            lifespan="off",
            ws="none",
            timeout_graceful_shutdown=1,
        )
        self._server = _Uvicorn(config)
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to answer, inside the running loop. Calling it again does nothing."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._server.serve([self._socket]), name="stand-in")

    async def aclose(self) -> None:
        self._server.should_exit = True
        if self._task is not None:
            await self._task
        self._socket.close()

    async def _completions(self, http: Request) -> Response:
        try:
            request = WireRequest.model_validate_json(await http.body())
        except ValidationError as exc:
            first = exc.errors(include_url=False, include_input=False)[0]
            message = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
            error = {"message": message, "type": "invalid_request_error", "param": None, "code": None}
            return JSONResponse({"error": error}, status_code=400)
        said = answer(*from_wire(request))
        self._answered += 1
        if request.stream:
            return StreamingResponse(stream(request, said, self._answered), media_type="text/event-stream")
        return JSONResponse(whole(request, said, self._answered))

    async def _models(self, http: Request) -> Response:
        model = {"id": MODEL, "object": "model", "created": 0, "owned_by": "agentd (scripted, not a language model)"}
        return JSONResponse({"object": "list", "data": [model]})
