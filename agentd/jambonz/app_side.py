"""The application's side of the gateway: its control socket, on which the messages of jambonz pass beside ours."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from agentd.outbound.app_socket import AppSocket
from agentd.outbound.channel import Channel, HookFailed, PathChannel, Verbs
from agentd.outbound.guard import Guard
from agentd.outbound.sending import Letter
from config import payloads
from config.commands import Message
from config.payloads import Payload
from config.server import App

AGAIN = 0.25  # seconds before an application is dialled once more
UNLIMITED = 24 * 3600.0  # seconds for a tool call: the toolbox gives it its time


class AppSide(AppSocket):
    """``session`` is what jambonz's session:new says of the call, ``take`` gets what comes and answers nothing of ours;
    it raises nothing.
    """

    def __init__(
        self, guard: Guard, app: App, call_sid: str, session: Any, take: Callable[[str, Message], Awaitable[None]]
    ) -> None:
        super().__init__(
            guard,
            app.url,
            call_sid=call_sid,
            info=_info(session),
            username=app.username,
            password=app.password.get_secret_value() if app.password else None,
            on_command=lambda command: None,  # it is taken as all else is
            tool_seconds=UNLIMITED,
            told_as=app.told_as,
        )
        self._all = session
        self._take_other = take

    async def reach(self, until: float, *, knows_us: bool = False) -> None:
        """Dial it, again and again, as jambonz does: the Node SDK takes more than a second for each new call, and
        meanwhile it answers no handshake. ``knows_us``: it has lost us, and is told that we are back; the verbs that
        it names are running. Raises :class:`HookFailed`.
        """
        while True:
            try:
                async with asyncio.timeout_at(until):
                    if knows_us:
                        await self._connect("session:reconnect")
                    else:
                        await self._reach()
                return
            except TimeoutError:
                raise HookFailed("the application could not be reached in time") from None
            except HookFailed as exc:
                if not exc.may_retry or asyncio.get_running_loop().time() + AGAIN >= until:
                    raise
            await asyncio.sleep(AGAIN)

    def pass_on(self, text: str, *, is_event: bool) -> None:
        """A message of jambonz's, in its turn. ``is_event``: when too many wait it may be dropped. Raises
        :class:`HookFailed`.
        """
        self._put(Letter("", text, is_event))

    def _session(self) -> Any:
        return self._all

    async def _unasked(self, text: str | bytes, message: Message) -> None:
        if isinstance(text, str):
            await self._take_other(text, message)


class AgentSide:
    """The same as the control socket of an agent that runs here: it is open already, and outlives the agent."""

    def __init__(self, app: AppSide, over: asyncio.Event) -> None:
        self.where = app.where
        self._app = app
        self._over = over

    async def open(self) -> Verbs:
        return []

    async def run(self) -> None:
        await self._over.wait()

    async def status(self, payload: Payload) -> None:
        """That is told by jambonz."""

    async def aclose(self) -> None:
        """It goes on without us."""

    def channel(self, hook: str) -> Channel:
        return PathChannel(self._app, hook)


def _info(session: Any) -> Payload:
    """What every hook is told of the call."""
    known = set(payloads.CALL_INFO.values())
    return {key: value for key, value in session.items() if key in known} if isinstance(session, dict) else {}
