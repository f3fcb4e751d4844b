"""The application of one call: its control socket or its webhooks, and hooks that have addresses of their own."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, Literal, Protocol
from urllib.parse import urlsplit

from agentd.outbound.app_dial import CLOSE
from agentd.outbound.app_socket import AppSocket
from agentd.outbound.channel import Channel, HookFailed, Verbs
from agentd.outbound.guard import Guard
from agentd.outbound.hooks import Hooks
from agentd.outbound.webhook import Webhook
from config.apps import address, is_path, is_socket
from config.commands import Command, Update
from config.conversation import Hook
from config.payloads import Payload
from config.server import App
from config.verb import Agent

log = logging.getLogger("agentd.outbound.application")


class ControlSocket(Protocol):
    """The socket of an application: :class:`AppSocket`, or one that jambonz holds (the gateway's)."""

    where: str

    async def open(self) -> Verbs: ...

    async def run(self) -> None: ...

    async def status(self, payload: Payload) -> None: ...

    async def aclose(self) -> None: ...

    def channel(self, hook: str) -> Channel: ...


class Application:
    """``app`` is what the agent's file names, if it does; ``info`` is what every hook is told of the call; ``secret``
    signs webhooks that have no secret of their own; ``on_command`` gets what the application sends unasked. ``socket``
    is there already where the call came through the gateway.
    """

    def __init__(
        self,
        app: App | None,
        guard: Guard,
        info: Payload,
        *,
        secret: str | None,
        tool_seconds: float,
        on_command: Callable[[Command | Update], None],
        socket: ControlSocket | None = None,
    ) -> None:
        self._app = app
        self._guard = guard
        self._info = info
        self._secret = secret if app is None or app.secret is None else app.secret.get_secret_value()
        self._tool_seconds = tool_seconds
        self._on_command = on_command
        self._others: dict[str, AppSocket] = {}  # of hooks with a socket of their own, by URL
        self._tasks: set[asyncio.Task[None]] = set()  # that keep them
        self.socket = socket
        if socket is None and app is not None and is_socket(app.url):
            password = app.password.get_secret_value() if app.password else None
            self.socket = self._dialled(app.url, app.username, password, told_as=app.told_as)

    async def open(self) -> Verbs:
        """Tell it of the call, and keep its socket until :meth:`aclose`. Returns the verbs that it wants, none when it
        is reached by webhooks. Raises :class:`HookFailed`; its hooks fail at once from then on.
        """
        if self.socket is None:
            return []
        try:
            verbs = await self.socket.open()
        except HookFailed:
            await self.socket.aclose()
            raise
        self._spawn(self.socket.run())
        return verbs

    def hooks(self, agent: Agent) -> Hooks:
        """The ways to the hooks of an agent of this call."""
        return Hooks(
            tool=self.channel(agent.tool_hook),
            event=self.channel(agent.event_hook),
            action=self.channel(agent.action_hook),
            call_sid=str(self._info["call_sid"]),
        )

    def tag(self, data: Payload) -> None:
        """From now on it is told this beside the call (the verb `tag`)."""
        known = self._info.get("customerData")
        self._info["customerData"] = {**(known if isinstance(known, dict) else {}), **data}

    async def aclose(self, ending: Payload) -> None:
        """The call is over; ``ending`` is how (`call:status`)."""
        for socket in self._sockets():
            try:
                await socket.status(ending)
            except HookFailed as exc:
                log.info("application not told of the end", extra={"where": socket.where, "error": str(exc)})
            await socket.aclose()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=CLOSE)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _spawn(self, keeping: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(keeping, name="application")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _sockets(self) -> list[ControlSocket]:
        return [*([self.socket] if self.socket is not None else []), *self._others.values()]

    async def _keep(self, socket: AppSocket) -> None:
        try:
            await socket.open()  # whatever verbs it wants: the call has its agent
        except HookFailed as exc:
            log.warning("hook not reached", extra={"where": socket.where, "error": str(exc)})
            await socket.aclose()
            return
        await socket.run()

    def channel(self, hook: Hook | None) -> Channel | None:
        """The way to a hook; ``None`` where there is none."""
        if hook is None:
            return None
        password = hook.password.get_secret_value() if hook.password else None
        if is_path(hook.url) and self.socket is not None:
            return self.socket.channel(hook.url)
        if is_socket(hook.url):
            if hook.url not in self._others:
                self._others[hook.url] = self._dialled(hook.url, hook.username, password)
                self._spawn(self._keep(self._others[hook.url]))
            return self._others[hook.url].channel(urlsplit(hook.url).path or "/")
        url, username = address(hook.url, self._app), hook.username
        if url is None:
            log.warning(
                "hook ignored", extra={"why": "expected a URL, or an agent whose file names an app; got a path"}
            )
            return None
        if is_path(hook.url) and self._app is not None and username is None:
            username = self._app.username
            password = self._app.password.get_secret_value() if self._app.password else None
        guard = self._guard.trusting([url]) if is_path(hook.url) else self._guard  # the operator named its host
        return Webhook(
            guard,
            url,
            method=hook.method,
            username=username,
            password=password,
            secret=self._secret,
            info=self._info,
            tool_seconds=self._tool_seconds,
        )

    def _dialled(
        self,
        url: str,
        username: str | None,
        password: str | None,
        told_as: Literal["agent", "verb"] | None = None,
    ) -> AppSocket:
        return AppSocket(
            self._guard,
            url,
            call_sid=str(self._info["call_sid"]),
            info=self._info,
            username=username,
            password=password,
            on_command=self._on_command,
            tool_seconds=self._tool_seconds,
            told_as=told_as,
        )
