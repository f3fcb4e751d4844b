"""One way to an application. What it is asked and told goes by webhook or by its socket; who asks does not care."""

from typing import Any, Protocol

from config.payloads import Payload

Verbs = list[dict[str, Any]]


class HookFailed(Exception):
    """The application did not do what it was asked. The message is in words that a model may read, and names no
    credential; ``may_retry``: it cannot have done it, so asking again does no harm.
    """

    def __init__(self, message: str, *, may_retry: bool = False) -> None:
        super().__init__(message)
        self.may_retry = may_retry


class Channel(Protocol):
    """The way to one hook of the verb. ``where`` is what logs call it: without user, password and query. Each method
    raises :class:`HookFailed`, keeps its own deadline, and may be cancelled.
    """

    where: str

    async def tool_call(self, payload: Payload) -> Any:
        """Ask the toolHook; returns the tool's result, text or JSON."""
        ...

    async def event(self, payload: Payload) -> None:
        """Tell the eventHook; returns once it is delivered."""
        ...

    async def action(self, payload: Payload) -> Verbs:
        """Tell the actionHook; returns the verbs that the application wants next."""
        ...


class Paths(Protocol):
    """A socket that leads to all hooks of an application; ``hook`` is the path of one."""

    where: str

    async def tool_call(self, hook: str, payload: Payload) -> Any: ...

    async def event(self, hook: str, payload: Payload) -> None: ...

    async def action(self, hook: str, payload: Payload) -> Verbs: ...


class PathChannel:
    """A :class:`Channel`: one path of a socket."""

    def __init__(self, socket: Paths, hook: str) -> None:
        self.where = f"{socket.where} {hook.partition('?')[0]}"
        self._socket = socket
        self._hook = hook

    async def tool_call(self, payload: Payload) -> Any:
        return await self._socket.tool_call(self._hook, payload)

    async def event(self, payload: Payload) -> None:
        await self._socket.event(self._hook, payload)

    async def action(self, payload: Payload) -> Verbs:
        return await self._socket.action(self._hook, payload)
