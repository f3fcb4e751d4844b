"""`/metrics`: the figures of the whole server, for whoever may see all of its calls."""

import asyncio

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from agentd import access
from agentd.jambonz.listen import Node


def routes(node: Node) -> list[Route]:
    async def metrics(request: Request) -> Response:
        if not access.rights_of(request.scope).has_everything:
            # The figures name agents, and count what all accounts use.
            raise HTTPException(403, "expected a key for all agents and accounts, got one that is limited")
        body, kind = await asyncio.to_thread(node.metrics.exposition, request.headers.get("accept", ""))
        return Response(body, headers={"content-type": kind, "cache-control": "no-store"})

    return [Route("/metrics", metrics)]
