"""The way to an application's control socket: the handshake, and which SDK is at the other end."""

import re

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import InvalidStatus, WebSocketException

from agentd.outbound.basic_auth import basic
from agentd.outbound.channel import HookFailed
from agentd.outbound.guard import Blocked, Guard, OutgoingFailed
from config.commands import LIMIT

SUBPROTOCOL = "ws.jambonz.org"
HANDSHAKE = 1.5  # seconds, as jambonz has it
CLOSE = 1.0  # seconds that an application has to close its side

# jambonz-python-sdk 0.4.0 knows no `agent:event` and no `agent:tool-call`: the handlers of a path hear of `verb:hook`
# alone, and its own example of an agent expects events and tool calls so. It is the SDK whose server is aiohttp's.
_PYTHON_SDK = re.compile(r"\baiohttp/")


async def dial(guard: Guard, url: str, username: str | None, password: str | None) -> ClientConnection:
    """An open socket. Raises :class:`HookFailed`."""
    headers = {}
    if username is not None:
        headers["Authorization"] = basic(username, password)
    try:
        return await guard.dial(
            url,
            subprotocols=(SUBPROTOCOL,),
            headers=headers,
            seconds=HANDSHAKE,
            max_size=LIMIT,
            close_timeout=CLOSE,
            compression=None,
        )
    except Blocked as exc:
        raise HookFailed("the address of the application is not allowed") from exc
    except OutgoingFailed as exc:
        raise HookFailed("the application could not be reached", may_retry=True) from exc
    except InvalidStatus as exc:
        status = exc.response.status_code
        message = f"expected the application to accept the connection, got status {status}"
        raise HookFailed(message, may_retry=status >= 500 or status == 429) from None
    except (WebSocketException, OSError):  # their words may hold the address
        raise HookFailed("the application did not complete the handshake", may_retry=True) from None


def hears_only_hooks(connection: ClientConnection) -> bool:
    """Is it an application to which everything has to go as ``verb:hook``?"""
    server = connection.response.headers.get("Server", "") if connection.response else ""
    return _PYTHON_SDK.search(server) is not None
