"""From files to a configuration that this installation can run; and what of it is not built yet."""

from collections.abc import Callable, Iterator
from pathlib import Path

from agentd.prebuilt import PREBUILT
from config import files
from config.files import Config
from config.verb import Agent
from providers import registry

# Keys of the verb that are read and checked, and do nothing yet: how to tell that an agent asks for one.
NOT_BUILT: dict[str, Callable[[Agent], object]] = {
    "toolHook": lambda a: a.tool_hook,
    "llmOptions.tools": lambda a: a.llm.llm_options.tools,
    "eventHook": lambda a: a.event_hook,
    "actionHook": lambda a: a.action_hook,
    "mcpServers": lambda a: a.mcp_servers,
    "noiseIsolation": lambda a: a.noise_isolation,
    "handoff": lambda a: a.handoff,
    "toolFiller": lambda a: a.tool_filler,
    "fallbacks": lambda a: a.stt.fallback_vendor or a.tts.fallback_vendor or a.llm.fallback,
}


def load(path: Path | None = None) -> Config:
    """Raises :class:`config.problems.ConfigError` with every problem of every file."""
    known = {role: registry.known(role) for role in ("stt", "llm", "tts")}
    return files.load(path, {**known, "tools": sorted(PREBUILT)})


def not_built(agent: Agent) -> Iterator[str]:
    """What this agent asks for and will not get from this version."""
    return (name for name, asks in NOT_BUILT.items() if asks(agent))
