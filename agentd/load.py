"""From files to a configuration that this installation can run; and what of it is not built yet."""

from collections.abc import Callable, Iterator
from pathlib import Path

from agentd.call.isolation import isolate_with
from agentd.prebuilt import PREBUILT
from config import files
from config.files import Config
from config.verb import Agent
from providers import registry
from providers.base import ProviderError
from providers.registry import Shared

RATES = (8000, 16000)  # Hz, those of callers inside: what an engine needs at them is loaded before the first call

# Keys of the verb that are read and checked, and do nothing yet: how to tell that an agent asks for one.
NOT_BUILT: dict[str, Callable[[Agent], object]] = {
    "toolHook": lambda a: a.tool_hook,
    "llmOptions.tools": lambda a: a.llm.llm_options.tools,
    "eventHook": lambda a: a.event_hook,
    "actionHook": lambda a: a.action_hook,
    "mcpServers": lambda a: a.mcp_servers,
    "handoff": lambda a: a.handoff,
    "toolFiller": lambda a: a.tool_filler,
}


def load(path: Path | None = None) -> Config:
    """Raises :class:`config.problems.ConfigError` with every problem of every file."""
    known = {role: registry.known(role) for role in ("stt", "llm", "tts")}
    return files.load(path, {**known, "tools": sorted(PREBUILT)})


def missing(config: Config, shared: Shared) -> Iterator[str]:
    """What agents ask for and this installation lacks. Calls go on without it."""
    for name, agent in sorted(config.agents.items()):
        if agent.noise_isolation is not None:
            try:
                for rate in RATES:
                    isolate_with(config.server, shared)(agent.noise_isolation, rate).close()
            except ProviderError as exc:
                yield f"agent {name}: noiseIsolation: {exc}"


def not_built(agent: Agent) -> Iterator[str]:
    """What this agent asks for and will not get from this version."""
    return (name for name, asks in NOT_BUILT.items() if asks(agent))
