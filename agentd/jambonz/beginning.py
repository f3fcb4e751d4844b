"""From the first message of a listen socket to what a call needs: its application, its agents, and the ways outside."""

import asyncio
import importlib
import logging
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

from agentd.call import setup
from agentd.call.outcome import Outcome
from agentd.call.outside import Outside
from agentd.call.sound import BadSound
from agentd.call.tools import Mcp
from agentd.errors import CallRefused
from agentd.jambonz.tickets import PREFIX, Ticket
from agentd.jambonz.wire import CallInfo
from agentd.ops.registry import account_of
from agentd.outbound.app_socket import AppSocket
from agentd.outbound.application import Application
from agentd.outbound.channel import HookFailed, Verbs
from agentd.outbound.guard import Guard
from agentd.outbound.hooks import Hooks
from agentd.outbound.jambonz_api import Transfer, transfer_by
from config import payloads
from config.commands import Command, Update
from config.files import Config, with_defaults
from config.metadata import apply_metadata, apply_verb
from config.server import App
from config.verb import Agent

log = logging.getLogger("agentd.listen")

MCP = "agentd.outbound.mcp"  # imported when it is asked for: the SDK takes half a second


class Beginning:
    """One call's. Raises :class:`CallRefused` for an agent that there is not. ``ticket`` is that of a call which comes
    through the gateway. :meth:`end` it, whatever came of it.
    """

    def __init__(self, config: Config, guard: Guard, name: str, info: CallInfo, ticket: Ticket | None = None) -> None:
        if ticket is None and name.startswith(PREFIX) and name not in config.agents:
            raise CallRefused("expected a token for this call, got one that is used, too old or another's")
        if ticket is None and name not in config.agents:
            raise CallRefused(f"expected an agent of {', '.join(sorted(config.agents))}; got {name!r}")
        self.config = config
        self.info = info
        self.ticket = ticket
        self._name = name if ticket is None else ticket.app
        self._file = (
            config.agents[name] if ticket is None else with_defaults(Agent(), config.server.defaults, os.environ)
        )
        self.guard = guard = guard.of_agent(self._file)
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()
        self.app: App | None = config.server.apps.get(self._file.app or (ticket.app if ticket is not None else ""))
        secret = config.server.hooks.secret
        self.application = Application(
            self.app,
            guard,
            payloads.call_info(info.metadata, info.call_sid),
            secret=secret.get_secret_value() if secret is not None else None,
            tool_seconds=self._file.deadlines.tool,
            on_command=self._commanded,
            socket=None if ticket is None else ticket.socket,
        )
        self.on_command: Callable[[Command | Update], None] | None = None  # who gets what it sends unasked
        if ticket is not None:
            ticket.take_commands(self._commanded)

    def _commanded(self, command: Command | Update) -> None:
        if self.on_command is not None:
            self.on_command(command)

    @property
    def socket(self) -> AppSocket | None:
        """The application's, where we have dialled it: then its verbs are ours to run."""
        return self.application.socket if isinstance(self.application.socket, AppSocket) else None

    @property
    def may_be_recorded(self) -> bool:
        """Does the agent's file want that? The call and the application may still say no."""
        return self._file.record

    async def verbs(self) -> Verbs:
        """What the application wants first; none where there is none that could say. Raises nothing."""
        try:
            verbs = await self.application.open()
        except HookFailed as exc:
            # The file may well be enough; what needs the application will say that it is not there.
            log.warning("application not reached", extra={**self.fields(), "error": str(exc)})
            return []
        return verbs if self.ticket is None else [self.ticket.verb]

    def agent(self, verb: Mapping[str, Any] = {}) -> Agent:
        """An agent of this call: its file, the call's metadata over it, and over both an agent ``verb``."""
        agent, warnings = apply_metadata(self._file, self.info.metadata if self.ticket is None else {})
        agent, more = apply_verb(agent, verb)
        for warning in [*warnings, *more]:
            log.warning("ignored", extra={**self.fields(), "why": warning})
        return agent

    async def end(self, verbs: Verbs) -> None:
        """The call is over, or has not begun: goodbye to the application. ``verbs`` are what is to come behind it."""
        if self.ticket is not None:  # first: jambonz waits for it
            self.ticket.take_commands(None)
            self.ticket.end(verbs)
        seconds = round(self._loop.time() - self._began)
        await self.application.aclose({"call_status": "completed", "duration": seconds})

    def fields(self, **fields: Any) -> dict[str, Any]:
        """What every line of the log names."""
        account = account_of(self.info.metadata)
        return {"agent": self._name, "call_sid": self.info.call_sid, "account_sid": account, **fields}


class Ways:
    """The ways outside of one agent, from its beginning to its actionHook."""

    def __init__(self, beginning: Beginning, agent: Agent) -> None:
        self._beginning = beginning
        self._agent = agent
        self._hooks: Hooks = beginning.application.hooks(agent)
        self._telling = asyncio.create_task(self._hooks.run(), name="hooks")

    async def outside(self) -> Outside:
        """What the call reaches by them. Its hooks are told from now on."""
        hooks, agent, beginning, ticket = self._hooks, self._agent, self._beginning, self._beginning.ticket
        return Outside(
            heard=hooks.heard,
            ask=hooks.tool_call if agent.tool_hook is not None else None,
            mcp=await self._mcp(),
            transfer=self._transfer(),
            means=setup.means(beginning.config.server, beginning.guard),
            fetch=self._fetch,
            tell=None if ticket is None else ticket.tell,
            before=() if ticket is None else ticket.before,
        )

    @property
    def dropped(self) -> int:
        """Events that the eventHook was too slow for."""
        return self._hooks.dropped

    async def finish(self, outcome: Outcome) -> Verbs:
        """The agent is over: the last events and the actionHook. Returns the verbs that come next. However often it is
        asked, the application hears of it once.
        """
        try:
            verbs = await self._hooks.finish(outcome.payload(self._beginning.config.server.events.names))
            if (ticket := self._beginning.ticket) is not None:
                ticket.is_answered = self._hooks.is_answered
            return verbs
        finally:
            self._telling.cancel()
            await asyncio.gather(self._telling, return_exceptions=True)

    async def _mcp(self) -> Mcp | None:
        agent = self._agent
        if not agent.mcp_servers:
            return None
        await import_mcp()
        tools: Mcp = sys.modules[MCP].McpTools(agent.mcp_servers, self._beginning.guard, deadline=agent.deadlines.tool)
        return tools

    def _transfer(self) -> Transfer | None:
        beginning = self._beginning
        if beginning.ticket is not None:
            return beginning.ticket.hand_on
        info = beginning.info
        jambonz, account = beginning.config.server.jambonz, str(info.metadata.get("accountSid") or "")
        if jambonz is None or not account:
            return None
        return transfer_by(jambonz, beginning.guard, account, info.call_sid)

    async def _fetch(self, url: str) -> bytes:
        answer = await self._beginning.guard.fetch(url)
        if answer.status != 200:
            raise BadSound(f"expected a sound, got HTTP {answer.status}")
        return answer.body


async def import_mcp() -> None:
    """On a thread: other calls go on meanwhile."""
    if not hasattr(sys.modules.get(MCP), "McpTools"):  # another call may be in the middle of importing it
        await asyncio.to_thread(importlib.import_module, MCP)
