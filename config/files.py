"""From files to a :class:`Config`: ``agentd.yaml`` and, in a folder beside it, one file per agent."""

import os
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from config.apps import misplaced
from config.check import Fault, check, show
from config.document import Document, parse
from config.merge import merge_spec
from config.parts import Part
from config.problems import ConfigError, Problem, dotted
from config.server import Defaults, Server
from config.vendors import unknown_credentials, unknown_tools, unknown_vendors
from config.verb import Agent

M = TypeVar("M", bound=Part)
KnownVendors = Mapping[str, Collection[str]]  # by role: stt, llm, tts

SERVER_FILE = "agentd.yaml"
SUFFIXES = (".yaml", ".yml", ".json")
DEMO = Path(__file__).with_name("demo.yaml")
SUMMARIZE_TURNS = "JAMBONES_PIPELINE_SUMMARIZE_TURNS"  # jambonz's own name for it, from the guide
ROLES = ("stt", "llm", "tts")


@dataclass(frozen=True, slots=True)
class Config:
    """Everything that was configured. ``agents`` always has ``demo``."""

    server: Server
    agents: Mapping[str, Agent]


def load(
    path: Path | None = None, known_vendors: KnownVendors | None = None, *, env: Mapping[str, str] | None = None
) -> Config:
    """Read ``agentd.yaml`` (``path``, else the one in this folder, if any) and its agents.

    Raises :class:`ConfigError` with every problem of every file.
    """
    loader = _Loader(os.environ if env is None else env, known_vendors or {})
    config = loader.load(path)
    if loader.problems:
        raise ConfigError(sorted(loader.problems, key=lambda problem: (problem.file, problem.line or 0)))
    return config


def read_agent(path: Path, *, env: Mapping[str, str] | None = None) -> Agent:
    """One agent's file by itself, without the server's defaults. Raises :class:`ConfigError`."""
    loader = _Loader(os.environ if env is None else env, {})
    read = loader.read(path, Agent)
    if read is None:
        raise ConfigError(sorted(loader.problems, key=lambda problem: (problem.file, problem.line or 0)))
    return read[0]


class _Loader:
    def __init__(self, env: Mapping[str, str], known: KnownVendors) -> None:
        self.env, self.known = env, known
        self.problems: list[Problem] = []

    def load(self, path: Path | None) -> Config:
        given = path is not None
        path = path or Path(SERVER_FILE)
        server, is_read = Server(), True
        if not given and not path.exists():
            pass
        elif read := self.read(path, Server):
            server, document = read
            self.report(path, document, unknown_vendors(server.defaults, self.known, ("defaults",)))
            self.report(path, document, unknown_credentials(server.credentials, self.known))
        else:
            is_read = False
        folder = path.parent / server.agents
        if "agents" in server.model_fields_set and not folder.is_dir():
            self.problems.append(Problem(_shown(path), None, "agents", f"expected a folder, {_shown(folder)} is none"))
        turns = self.env.get(SUMMARIZE_TURNS, "0")
        if not turns.isdecimal():
            message = f"expected a whole number ≥ 0, got {show(turns)}"
            self.problems.append(Problem("environment", None, SUMMARIZE_TURNS, message))
            self.env = {**self.env, SUMMARIZE_TURNS: "0"}
        agents = {"demo": read_agent(DEMO, env={})}
        agents |= {name: agent for name, agent in self.agents(folder, server if is_read else None) if agent}
        return Config(server, agents)

    def agents(self, folder: Path, server: Server | None) -> Iterator[tuple[str, Agent | None]]:
        seen: dict[str, Path] = {}
        files = sorted(folder.iterdir()) if folder.is_dir() else []
        for file in files:
            if file.suffix not in SUFFIXES or file.name.startswith("."):
                continue
            if not re.fullmatch(r"[A-Za-z0-9_-]+", file.stem):
                message = f"expected a file name of letters, digits, - and _, got {file.stem!r}"
                self.problems.append(Problem(_shown(file), None, "", message))
            elif other := seen.get(file.stem):
                message = f"expected one file per agent, got {other.name} as well"
                self.problems.append(Problem(_shown(file), None, "", message))
            else:
                seen[file.stem] = file
                yield file.stem, self.agent(file, server)

    def agent(self, file: Path, server: Server | None) -> Agent | None:
        """``server`` is ``None`` where its file cannot be read: that may well name what is missing here."""
        read = self.read(file, Agent)
        if read is None:
            return None
        agent = with_defaults(read[0], server.defaults if server else Defaults(), self.env)
        faults = [*unknown_vendors(read[0], self.known), *unknown_tools(read[0], self.known)]
        faults += misplaced(read[0], server.apps) if server else []
        for role in ROLES if server else ():
            if not getattr(agent, role).vendor:
                faults.append(
                    Fault((role, "vendor"), f"expected a vendor here or in {SERVER_FILE} under defaults.{role}")
                )
        self.report(file, read[1], faults)
        return None if faults else agent

    def read(self, path: Path, model: type[M]) -> tuple[M, Document] | None:
        """One file as a model, or ``None`` when it has problems."""
        document = self.document(path)
        if document is None:
            return None
        if not isinstance(document.data, dict):
            got = "a list" if isinstance(document.data, list) else "a single value"
            self.problems.append(Problem(_shown(path), 1, "", f"expected keys and values at the top, got {got}"))
            return None
        checked = check(model, document.data)
        if isinstance(checked, list):
            self.report(path, document, checked)
            return None
        return checked, document

    def document(self, path: Path) -> Document | None:
        try:
            text = path.read_bytes().decode("utf-8-sig")
        except OSError as exc:
            reason = {FileNotFoundError: "no such file", IsADirectoryError: "expected a file, got a directory"}
            message = reason.get(type(exc), f"cannot be read: {exc.strerror}")
            self.problems.append(Problem(_shown(path), None, "", message))
            return None
        except UnicodeDecodeError:
            text = "\0"
        if "\0" in text:
            self.problems.append(Problem(_shown(path), None, "", "expected text in UTF-8, got a binary file"))
            return None
        document = parse(text, self.env, is_json=path.suffix == ".json")
        self.problems += [Problem(_shown(path), *fault) for fault in document.faults]
        return None if document.faults else document

    def report(self, path: Path, document: Document, faults: Any) -> None:
        for fault in faults:
            line, found = document.locate(fault.path)
            missing = fault.path if len(found) < len(fault.path) and not fault.got else found
            if variable := document.variables.get(found):  # what it holds may be a key in the wrong place
                fault = Fault(fault.path, fault.expected, f"the value of {variable}" if fault.got else "", fault.hint)
            self.problems.append(Problem(_shown(path), line, dotted(missing), str(fault)))


def with_defaults(agent: Agent, defaults: Defaults, env: Mapping[str, str]) -> Agent:
    """The agent with what its file leaves out; where both name something, the agent's file wins."""
    given = agent.given()
    for role in ROLES:
        if base := getattr(defaults, role).given():
            given[role] = merge_spec(base, given.get(role, {}))
    if base := defaults.deadlines.given():
        given["deadlines"] = {**base, **given.get("deadlines", {})}
    turns = defaults.summarize_turns if "summarize_turns" in defaults.model_fields_set else env.get(SUMMARIZE_TURNS)
    if turns is not None:
        given.setdefault("summarizeTurns", turns)
    return Agent.parse(given)


def _shown(path: Path) -> str:
    """As a terminal shows it: from here when it is below."""
    try:
        return str(path.absolute().relative_to(Path.cwd()))
    except ValueError:
        return str(path)
