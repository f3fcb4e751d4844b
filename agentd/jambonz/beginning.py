"""From the first message of a listen socket to what a call needs: its agent, its application, and the ways outside."""

import asyncio
import importlib
import logging
import os
import sys
from collections.abc import Mapping
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
from agentd.outbound.application import Application, agent_verb
from agentd.outbound.channel import HookFailed, Verbs
from agentd.outbound.guard import Guard
from agentd.outbound.hooks import Hooks
from agentd.outbound.jambonz_api import Transfer, transfer_by
from config import payloads
from config.files import Config, with_defaults
from config.metadata import apply_metadata, apply_verb
from config.verb import Agent

log = logging.getLogger("agentd.listen")

MCP = "agentd.outbound.mcp"  # imported when it is asked for: the SDK takes half a second


class Beginning:
    """One call's. Raises :class:`CallRefused` for an agent that there is not. ``on_command`` gets what the application
    sends unasked; ``ticket`` is the one of a call that comes through the gateway. :meth:`end` it, whatever came of it.
    """

    def __init__(
        self, config: Config, guard: Guard, name: str, info: CallInfo, on_command: Any, ticket: Ticket | None = None
    ) -> None:
        if ticket is None and name.startswith(PREFIX) and name not in config.agents:
            raise CallRefused("expected a token for this call, got one that is used, too old or another's")
        if ticket is None and name not in config.agents:
            raise CallRefused(f"expected an agent of {', '.join(sorted(config.agents))}; got {name!r}")
        self._config = config
        self._info = info
        self._name = name if ticket is None else ticket.app
        self._ticket = ticket
        self._next: Verbs = []  # what comes behind the agent, before what the application wants
        self._file = (
            config.agents[name] if ticket is None else with_defaults(Agent(), config.server.defaults, os.environ)
        )
        self.guard = guard = guard.of_agent(self._file)
        self._hooks: Hooks | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()
        secret = config.server.hooks.secret
        self._application = Application(
            config.server.apps.get(self._file.app or (ticket.app if ticket is not None else "")),
            guard,
            payloads.call_info(info.metadata, info.call_sid),
            secret=secret.get_secret_value() if secret is not None else None,
            tool_seconds=self._file.deadlines.tool,
            on_command=on_command,
            socket=None if ticket is None else ticket.socket,
        )
        if ticket is not None:
            ticket.take_commands(on_command)

    async def agent(self) -> Agent:
        """The agent of this call: its file, the call's metadata over it, and over both the verb that the application
        answers with.
        """
        agent, warnings = apply_metadata(self._file, self._info.metadata if self._ticket is None else {})
        try:
            verbs = await self._application.open()
            verb, others = agent_verb(verbs if self._ticket is None else [self._ticket.verb])
        except HookFailed as exc:
            # The file may well be enough; what needs the application will say that it is not there.
            log.warning("application not reached", extra={**self._fields(), "error": str(exc)})
            verb, others = None, []
        if verb is not None:
            agent, more = apply_verb(agent, verb)
            warnings += more
        for warning in warnings:
            log.warning("ignored", extra={**self._fields(), "why": warning})
        if others:
            why = "on a bare listen only the agent verb is run"
            log.warning("verbs of the application ignored", extra={**self._fields(), "verbs": others, "why": why})
        return agent

    async def outside(self, agent: Agent) -> Outside:
        """The ways outside for this agent. From now on its hooks are told."""
        self._hooks = hooks = self._application.hooks(agent)
        self._tasks = [
            asyncio.create_task(hooks.run(), name="hooks"),
            asyncio.create_task(self._application.run(), name="application"),
        ]
        return Outside(
            heard=hooks.heard,
            ask=hooks.tool_call if agent.tool_hook is not None else None,
            mcp=await self._mcp(agent),
            transfer=self._transfer(),
            means=setup.means(self._config.server, self.guard),
            fetch=self._fetch,
        )

    async def end(self, outcome: Outcome) -> None:
        """The call is over, or has not begun: the last events, the actionHook, and goodbye to the application."""
        verbs: Verbs = []
        try:
            if self._hooks is not None:
                verbs = await self._hooks.finish(outcome.payload(self._config.server.events.names))
                wanted = [str(verb.get("verb")) for verb in verbs]
                if wanted and self._ticket is None:
                    # The listen verb's own actionHook says what comes next, and jambonz asks that.
                    log.info("verbs of the actionHook are not run here", extra={**self._fields(), "verbs": wanted})
            seconds = round(self._loop.time() - self._began)
            await self._application.aclose({"call_status": "completed", "duration": seconds})
        finally:
            if self._ticket is not None:
                self._ticket.take_commands(None)
                if not self._ticket.done.done():
                    self._ticket.done.set_result([*self._next, *verbs])
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _mcp(self, agent: Agent) -> Mcp | None:
        if not agent.mcp_servers:
            return None
        await import_mcp()
        tools: Mcp = sys.modules[MCP].McpTools(agent.mcp_servers, self.guard, deadline=agent.deadlines.tool)
        return tools

    def _transfer(self) -> Transfer | None:
        if self._ticket is not None:
            return self._handed_on
        jambonz, account = self._config.server.jambonz, str(self._info.metadata.get("accountSid") or "")
        if jambonz is None or not account:
            return None
        return transfer_by(jambonz, self.guard, account, self._info.call_sid)

    async def _handed_on(self, verb: Mapping[str, Any]) -> None:
        """For jambonz, as soon as the listen has ended."""
        self._next = [dict(verb)]

    async def _fetch(self, url: str) -> bytes:
        answer = await self.guard.fetch(url)
        if answer.status != 200:
            raise BadSound(f"expected a sound, got HTTP {answer.status}")
        return answer.body

    def _fields(self) -> dict[str, str]:
        return {"agent": self._name, "call_sid": self._info.call_sid, "account_sid": account_of(self._info.metadata)}


async def import_mcp() -> None:
    """On a thread: other calls go on meanwhile."""
    if MCP not in sys.modules:
        await asyncio.to_thread(importlib.import_module, MCP)
