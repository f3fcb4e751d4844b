"""Names of vendors and of pre-built tools, held against those that the caller of :func:`config.files.load` knows."""

from collections.abc import Collection, Iterator, Mapping

from config.check import Fault
from config.problems import Path, nearest
from config.server import Defaults
from config.verb import Agent


def unknown_vendors(agent: Agent | Defaults, known: Mapping[str, Collection[str]], at: Path = ()) -> Iterator[Fault]:
    """A fault for each vendor named that none of the known ones is."""
    for role, path, vendor in _named(agent):
        if role in known and vendor and vendor not in known[role]:
            yield Fault(
                (*at, *path), f"expected the name of a vendor for {role}", repr(vendor), _hint(vendor, known[role])
            )


def unknown_tools(agent: Agent, known: Mapping[str, Collection[str]]) -> Iterator[Fault]:
    """A fault for each pre-built tool that is none (``known["tools"]``)."""
    for index, name in enumerate(agent.tools):
        if "tools" in known and name not in known["tools"]:
            yield Fault(
                ("tools", index), "expected the name of a pre-built tool", repr(name), _hint(name, known["tools"])
            )


def unknown_credentials(credentials: Mapping[str, object], known: Mapping[str, Collection[str]]) -> Iterator[Fault]:
    """Credentials of vendors that are not installed are fine; what looks like a slip of the pen is not."""
    every = {vendor for role, names in known.items() if role != "tools" for vendor in names}
    for vendor in credentials:
        if vendor not in every and (meant := nearest(vendor, every, cutoff=0.8)):
            yield Fault(("credentials", vendor), "unknown vendor", hint=f"did you mean {meant}?")


def _named(agent: Agent | Defaults) -> Iterator[tuple[str, Path, str]]:
    yield "stt", ("stt", "vendor"), agent.stt.vendor
    yield "stt", ("stt", "fallbackVendor"), agent.stt.fallback_vendor
    yield "llm", ("llm", "vendor"), agent.llm.vendor
    for index, fallback in enumerate(agent.llm.fallback):
        yield "llm", ("llm", "fallback", index, "vendor"), fallback.vendor
    yield "tts", ("tts", "vendor"), agent.tts.vendor
    yield "tts", ("tts", "fallbackVendor"), agent.tts.fallback_vendor
    if isinstance(agent, Agent):
        for language, entry in agent.language_config.items():
            yield "tts", ("languageConfig", language, "tts", "vendor"), entry.tts.vendor


def _hint(vendor: str, known: Collection[str]) -> str:
    meant = nearest(vendor, known)
    return f"did you mean {meant}?" if meant else f"known: {', '.join(sorted(known))}"
