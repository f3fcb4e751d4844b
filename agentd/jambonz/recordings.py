"""Recordings over REST: which there are, what is in them, and away with them. Those of this machine, that is; one that
a key does not cover is answered as one that does not exist.
"""

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from agentd import access
from agentd.jambonz.listen import Node
from agentd.jambonz.rest import answer, may_know
from agentd.ops.recording_files import Known
from agentd.ops.recordings import Recordings

KINDS = {".wav": "audio/wav", ".jsonl": "application/x-ndjson"}
HEADERS = {"cache-control": "no-store", "x-content-type-options": "nosniff"}


def routes(node: Node) -> list[Route]:
    shelf = Shelf(node.recordings)
    return [
        Route("/v1/recordings", shelf.show),
        Route("/v1/recordings/{call_sid}.wav", shelf.sound),
        Route("/v1/recordings/{call_sid}.jsonl", shelf.events),
        Route("/v1/recordings/{call_sid}", shelf.remove, methods=["DELETE"]),
    ]


class Shelf:
    """The routes around what is recorded; ``None``: nothing can be."""

    def __init__(self, recordings: Recordings | None) -> None:
        self._recordings = recordings

    async def show(self, request: Request) -> Response:
        return answer([_shown(known) for known in await self._covered(request, request.query_params.get("call_sid"))])

    async def sound(self, request: Request) -> "Download":
        return await self._download(request, ".wav")

    async def events(self, request: Request) -> "Download":
        return await self._download(request, ".jsonl")

    async def remove(self, request: Request) -> Response:
        """Each of this id: somebody who wants a call to be forgotten does not count them."""
        found = await self._found(request)
        assert self._recordings is not None, "something was found"
        await self._recordings.remove(known.name for known in found)
        return Response(status_code=204)

    async def _download(self, request: Request, suffix: str) -> "Download":
        known = (await self._found(request))[0]
        assert self._recordings is not None, "something was found"
        name = f"{known.name}{suffix}"
        return Download(
            FileResponse(self._recordings.folder / name, headers=HEADERS, media_type=KINDS[suffix], filename=name)
        )

    async def _found(self, request: Request) -> list[Known]:
        """Those of a call, the newest first; there is one at least."""
        found = await self._covered(request, request.path_params["call_sid"])
        if not found:
            raise HTTPException(404, "expected a recording, got none of this id")
        return found

    async def _covered(self, request: Request, call_sid: str | None) -> list[Known]:
        if self._recordings is None:
            return []
        return [known for known in await self._recordings.known(call_sid) if _covers(request, known)]


class Download:
    """A file of a call that may go on: what is added to it meanwhile is more than its length was said to be."""

    def __init__(self, response: FileResponse) -> None:
        self._response = response

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        left = 0

        async def send_so_much(message: Message) -> None:
            nonlocal left
            if message["type"] == "http.response.start":
                left = next(int(value) for name, value in message["headers"] if name == b"content-length")
            elif message["type"] == "http.response.body" and (body := message.get("body", b"")):
                message = {**message, "body": body[:left]}
                left -= len(message["body"])
            await send(message)

        await self._response(scope, receive, send_so_much)


def _covers(request: Request, known: Known) -> bool:
    """Whether it exists for whoever asks."""
    about = known.about
    return access.rights_of(request.scope).has(about.agent, about.account_sid) and may_know(request, about.proof)


def _shown(known: Known) -> dict[str, object]:
    about = known.about
    return {
        "call_sid": about.call_sid,
        "account_sid": about.account_sid,
        "agent": about.agent,
        "since": about.since,
        "seconds": known.seconds,
        "bytes": known.bytes,
        "is_whole": known.is_whole,
    }
