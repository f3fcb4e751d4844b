"""From the first message of a listen socket to what a call needs: its agent, its application, and the ways outside."""

import asyncio
import importlib
import logging
import sys
from typing import Any

from agentd.call import setup
from agentd.call.outcome import Outcome
from agentd.call.outside import Outside
from agentd.call.sound import BadSound
from agentd.call.tools import Mcp
from agentd.errors import CallRefused
from agentd.jambonz.wire import CallInfo
from agentd.ops.registry import account_of
from agentd.outbound.application import Application, agent_verb
from agentd.outbound.channel import HookFailed
from agentd.outbound.guard import Guard
from agentd.outbound.hooks import Hooks
from agentd.outbound.jambonz_api import transfer_by
from config import payloads
from config.files import Config
from config.metadata import apply_metadata, apply_verb
from config.verb import Agent

log = logging.getLogger("agentd.listen")

MCP = "agentd.outbound.mcp"  # imported when it is asked for: the SDK takes half a second


class Beginning:
    """One call's. Raises :class:`CallRefused` for an agent that there is not. ``on_command`` gets what the application
    sends unasked. :meth:`end` it, whatever came of the call.
    """

    def __init__(self, config: Config, guard: Guard, name: str, info: CallInfo, on_command: Any) -> None:
        if name not in config.agents:
            raise CallRefused(f"expected an agent of {', '.join(sorted(config.agents))}; got {name!r}")
        self._config = config
        self._info = info
        self._name = name
        self._file = config.agents[name]
        self.guard = guard = guard.of_agent(self._file)
        self._hooks: Hooks | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()
        secret = config.server.hooks.secret
        self._application = Application(
            config.server.apps.get(self._file.app or ""),
            guard,
            payloads.call_info(info.metadata, info.call_sid),
            secret=secret.get_secret_value() if secret is not None else None,
            tool_seconds=self._file.deadlines.tool,
            on_command=on_command,
        )

    async def agent(self) -> Agent:
        """The agent of this call: its file, the call's metadata over it, and over both the verb that the application
        answers with.
        """
        agent, warnings = apply_metadata(self._file, self._info.metadata)
        try:
            verb, others = agent_verb(await self._application.open())
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
        try:
            if self._hooks is not None:
                verbs = await self._hooks.finish(outcome.payload(self._config.server.events.names))
                if wanted := [str(verb.get("verb")) for verb in verbs]:
                    # The listen verb's own actionHook says what comes next, and jambonz asks that.
                    log.info("verbs of the actionHook are not run here", extra={**self._fields(), "verbs": wanted})
            seconds = round(self._loop.time() - self._began)
            await self._application.aclose({"call_status": "completed", "duration": seconds})
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _mcp(self, agent: Agent) -> Mcp | None:
        if not agent.mcp_servers:
            return None
        await import_mcp()
        tools: Mcp = sys.modules[MCP].McpTools(agent.mcp_servers, self.guard, deadline=agent.deadlines.tool)
        return tools

    def _transfer(self) -> Any:
        jambonz, account = self._config.server.jambonz, str(self._info.metadata.get("accountSid") or "")
        if jambonz is None or not account:
            return None
        return transfer_by(jambonz, self.guard, account, self._info.call_sid)

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
