"""The console's files, and what its page may do. Everything else the page does by the listen socket and by REST, as
others do.

The page is what lies in ``page/``: HTML, CSS and JavaScript modules as they are, without a build and without a word
from any other host. `Content-Security-Policy` holds it to that.
"""

import hashlib
import json
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Any, NamedTuple

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from agentd import __version__, access
from agentd.jambonz.listen import Node
from config.verb import Agent

KINDS = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; media-src blob:;"
        " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "permissions-policy": "microphone=(self), camera=(), geolocation=(), display-capture=()",
    "cross-origin-opener-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "cache-control": "no-cache",  # asked for anew each time, by its ETag: an upgrade shows at once
}
STAND_IN = "demo"  # the LLM vendor that is none


class File(NamedTuple):
    """One of the page's."""

    body: bytes
    kind: str
    etag: str


def routes(node: Node) -> list[Route]:
    """None where ``console: false`` says so."""
    if not node.config.server.console.enable:
        return []
    files = {path.name: _read(path) for path in resources.files("agentd.console").joinpath("page").iterdir()}

    async def file(request: Request) -> Response:
        found = files.get(request.path_params.get("file", "index.html"))
        if found is None:
            raise HTTPException(404, "expected a file of the console, got none of this name")
        headers = {**HEADERS, "etag": found.etag}
        if found.etag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        return Response(found.body, headers=headers, media_type=found.kind)

    async def about(request: Request) -> Response:
        told = json.dumps(_about(node, access.rights_of(request.scope)))
        return Response(told, media_type="application/json", headers={"cache-control": "no-store"})

    return [Route("/", file), Route(f"{access.PAGE}{{file}}", file), Route("/v1/console", about)]


def _about(node: Node, rights: access.Rights) -> dict[str, Any]:
    """Which agents may be talked to, and whether other calls may be known and changed."""
    agents = {name: agent for name, agent in sorted(node.config.agents.items()) if rights.has_agent(name)}
    return {
        "version": __version__,
        "may_know": not rights.is_onlooker,
        "agents": [_agent(name, agent, rights.account_for(name)) for name, agent in agents.items()],
    }


def _agent(name: str, agent: Agent, account: str | None) -> dict[str, Any]:
    """``account`` is one that a call must name, if any."""
    vendors = {"stt": agent.stt.vendor, "llm": agent.llm.vendor, "tts": agent.tts.vendor}
    return {
        "name": name,
        "description": agent.description,
        "account": account,
        "vendors": vendors,
        "is_stand_in": agent.llm.vendor == STAND_IN,
        "is_recorded": agent.record,
    }


def _read(path: Traversable) -> File:
    body = path.read_bytes()
    kind = KINDS[f".{path.name.rpartition('.')[2]}"]
    return File(body, kind, f'"{hashlib.sha256(body).hexdigest()[:16]}"')
