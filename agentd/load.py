"""From files to a configuration that this installation can run; and what of it this one lacks."""

import importlib.util
from collections.abc import Iterator
from pathlib import Path

from agentd.call.isolation import isolate_with
from agentd.call.setup import tavily_key
from agentd.prebuilt import NAMES, web_search
from config import files
from config.files import Config
from providers import registry
from providers.base import ProviderError
from providers.registry import Shared

RATES = (8000, 16000)  # Hz, those of callers inside: what an engine needs at them is loaded before the first call


def load(path: Path | None = None) -> Config:
    """Raises :class:`config.problems.ConfigError` with every problem of every file."""
    known = {role: registry.known(role) for role in ("stt", "llm", "tts")}
    return files.load(path, {**known, "tools": sorted(NAMES)})


def missing(config: Config, shared: Shared) -> Iterator[str]:
    """What agents ask for and this installation lacks. Calls go on without it."""
    if config.server.tracing.endpoint and importlib.util.find_spec("opentelemetry.exporter") is None:
        yield "tracing: expected the extra otel (pip install 'agentd[otel]'), got none"
    for name, agent in sorted(config.agents.items()):
        if agent.noise_isolation is not None:
            try:
                for rate in RATES:
                    isolate_with(config.server, shared)(agent.noise_isolation, rate).close()
            except ProviderError as exc:
                yield f"agent {name}: noiseIsolation: {exc}"
        if "web_search" in agent.tools and not tavily_key(config.server):
            wanted = f"expected credentials.tavily.apiKey (often ${{{web_search.VARIABLE}}}), got none"
            yield f"agent {name}: tools: web_search is not offered: {wanted}"
        if agent.handoff is not None and config.server.jambonz is None:
            wanted = "expected jambonz: {url, api_key} in agentd.yaml, got none"
            yield f"agent {name}: handoff: {agent.handoff.tool_name} is not offered: {wanted}"
        if agent.record and config.server.recordings.folder() is None:
            yield f"agent {name}: record: expected recordings.path in agentd.yaml, or a user with a home, got neither"
        answers = agent.tool_hook or agent.mcp_servers or agent.app  # which may name a hook for each call
        if agent.llm.llm_options.tools and not answers:
            yield f"agent {name}: llmOptions.tools are not offered: expected a toolHook to answer them, got none"
