"""The process: ``agentd.yaml``. Every key is optional."""

import ipaddress
import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, SecretStr

from config.deadlines import Deadlines
from config.llm import Llm
from config.parts import Name, Part, Port, Positive, Seconds, Share, Url, shorthand
from config.secrets import Secrets
from config.speech import Recognizer, Synthesizer
from config.verb import Summaries


def _one_or_more(value: Any) -> Any:
    return [value] if isinstance(value, dict) else value


def _distinct(accounts: list[Secrets]) -> list[Secrets]:
    if len({account.get("label", "") for account in accounts}) < len(accounts):
        raise ValueError("expected a different label in each")
    return accounts


Accounts = Annotated[
    list[Secrets],
    BeforeValidator(_one_or_more),
    AfterValidator(_distinct),
    Field(description="an object, or a list of objects with labels", min_length=1),
]


Word = Annotated[str, Field(description="a name of letters, digits, - and _", pattern=r"^[A-Za-z0-9_-]+$")]


class ServerPart(Part):
    """An object of ``agentd.yaml``, whose own keys are snake_case."""

    model_config = ConfigDict(alias_generator=None)


class Process(ServerPart):
    """Where the server listens and how it ends. Port 0 takes a free one; without a ``host`` it is every address where
    somebody is named under ``access``, else this machine's own. ``node`` is its name in a cluster; left out, the
    machine's.
    """

    host: Name | None = None
    node: (
        Annotated[str, Field(description="a name of letters, digits, - and _", pattern=r"^[A-Za-z0-9_-]+$")] | None
    ) = None
    port: Port = 8080
    public_url: Url | None = None
    workers: Positive = 1
    drain_seconds: Seconds = 3600


class Limits(ServerPart):
    """What one process takes upon itself. New calls are refused while a thing that is due waits ``loop_lag_ms`` on
    average, or the event loop has more than ``cpu`` of a core, both over 5 s; and beyond so many ``calls``.
    ``call_seconds`` is the longest call (jambonz ends its own after 3 h), ``stall_ms`` what the log reports of a loop
    that stands still.
    """

    loop_lag_ms: Positive = 100
    cpu: Share = 0.9
    calls: Positive | None = None
    call_seconds: Seconds = 4 * 3600
    stall_ms: Positive = 250


class Defaults(Part):
    """What an agent's file leaves out."""

    stt: Recognizer = Recognizer()
    llm: Llm = Llm()
    tts: Synthesizer = Synthesizer()
    summarize_turns: Summaries = 0
    deadlines: Deadlines = Deadlines()


class App(ServerPart):
    """An application: its socket (ws, wss) or its webhooks (http, https). ``secret`` signs what is posted to it.
    ``told_as``: events and tool calls go over its socket as ``agent:event``, ``agent:tool-call``, or as ``verb:hook``;
    left out, as its SDK understands them. ``apology`` is what the caller hears when it does not say what is to be done.
    """

    in_words = "a URL or an object"

    url: Url
    username: str | None = None
    password: SecretStr | None = None
    secret: SecretStr | None = None
    told_as: Literal["agent", "verb"] | None = None
    apology: Name = "We are sorry, your call cannot be answered at the moment. Goodbye."


class Hooks(ServerPart):
    """What is sent to applications. ``secret`` signs every webhook that has none of its own."""

    secret: SecretStr | None = None


def _host_or_network(entry: str) -> str:
    try:
        ipaddress.ip_network(entry.strip("[]"), strict=False)
    except ValueError:
        if not re.fullmatch(r"(\*\.)?([A-Za-z0-9_-]+\.)*(?!\d+$)[A-Za-z0-9_-]+", entry):
            raise ValueError("expected a host, *.domain, an address or a CIDR") from None
    return entry


class Outgoing(ServerPart):
    """Where addresses that come with a call may lead (docs/hooks.md). ``allow`` are the private ones: hosts and
    networks, by name, address or CIDR. ``ports`` beside 80 and 443; ``plain``: http and ws as well as https and wss.
    """

    allow: list[Annotated[str, AfterValidator(_host_or_network)]] = Field(
        default_factory=list, description="a list of hosts and networks"
    )
    ports: list[Port] = Field(default_factory=list, description="a list of ports")
    plain: bool = False


Secret = Annotated[SecretStr, Field(description="text that is not empty", min_length=1)]


class Caller(ServerPart):
    """Basic auth of listen sockets (jambonz's `wsAuth`). Empty lists: every agent, every account."""

    username: Annotated[str, Field(description="a name without a colon", pattern=r"^[^:]+$")]
    password: Secret
    agents: list[str] = Field(default_factory=list, description="a list of agents")
    accounts: list[str] = Field(default_factory=list, description="a list of jambonz accounts")


class Key(ServerPart):
    """A bearer key of the REST interface and the event streams. Empty lists: every agent, every account."""

    key: Secret
    agents: list[str] = Field(default_factory=list, description="a list of agents")
    accounts: list[str] = Field(default_factory=list, description="a list of jambonz accounts")


class Access(ServerPart):
    """Who may come in. Nobody named: only this machine, unless ``open`` says that anyone may; once somebody is named,
    ``open`` means nothing.
    """

    in_words = "open or an object"

    open: bool = False
    listen: list[Caller] = Field(default_factory=list, description="a list of {username, password}")
    keys: list[Key] = Field(default_factory=list, description="a list of {key}")

    def credentials_for(self, name: str) -> dict[str, str] | None:
        """The first ones by which the listen sockets of this agent or application may be opened."""
        for entry in self.listen:
            if not entry.agents or name in entry.agents:
                return {"username": entry.username, "password": entry.password.get_secret_value()}
        return None

    @property
    def names_somebody(self) -> bool:
        return bool(self.listen or self.keys)

    @staticmethod
    def read(value: Any) -> Any:
        """The word."""
        return {"open": True} if value == "open" else value


class Jambonz(ServerPart):
    """The REST interface of jambonz, by which a call is transferred."""

    url: Url
    api_key: SecretStr


class Redis(ServerPart):
    """Where the nodes of a cluster meet."""

    in_words = "a URL or an object"

    url: Annotated[
        str,
        Field(description="a redis, rediss or unix URL", pattern=r"^(rediss?|unix)://\S+$"),
    ]


class Events(ServerPart):
    """Which generation of names goes out: the guide's, the newer SDK's, or each beside the other."""

    names: Literal["guide", "sdk", "both"] = "both"


class Logs(ServerPart):
    """What `agentd serve` writes to stderr: lines for people, or one JSON object a line."""

    format: Literal["text", "json"] = "text"
    level: Literal["debug", "info", "warning", "error"] | None = None


class Tracing(ServerPart):
    """Where traces go: an OTLP/HTTP collector. Without an ``endpoint`` it is that of the environment (OTEL_…), if there
    is one. ``content``: what was said, and tools' arguments and results, go along.
    """

    in_words = "a URL or an object"

    endpoint: Annotated[str, Field(description="an http or https URL", pattern=r"^https?://\S+$")] | None = None
    headers: dict[str, SecretStr] = Field(default_factory=dict)
    content: bool = False


class Console(ServerPart):
    """Whether the page at `/` is there."""

    in_words = "true, false or an object"

    enable: bool = True


class SmartTurn(ServerPart):
    """Where the weights of Smart Turn v3 lie (ONNX); without it they are looked for in an installed pipecat-ai."""

    model_path: str | None = None


class Turn(ServerPart):
    """What the acoustic end of turn (`turnDetection: krisp`) runs on."""

    engine: Literal["krisp", "smart-turn-v3", "rule"] | None = None
    smart_turn: SmartTurn = SmartTurn()


def _folder(path: str | None, variable: str, otherwise: str, name: str) -> Path | None:
    """The ``path``, else agentd/``name`` in the folder that the variable or the user's home has for such things."""
    base = os.environ.get(variable, "")
    if not os.path.isabs(base):  # as the XDG base directory specification wants it
        base = otherwise
    folder = os.path.expanduser(path or os.path.join(base, "agentd", name))
    return None if folder.startswith("~") else Path(folder)


class SpeechCache(ServerPart):
    """Where the sound of greetings is kept, and how much of it. ``path`` may begin with ``~``."""

    in_words = "true, false or an object"

    enable: bool = True
    path: Name | None = None
    megabytes: Positive = 100

    def folder(self) -> Path | None:
        """The ``path``, else agentd/speech in the user's folder for caches; ``None`` for a user without a home."""
        return _folder(self.path, "XDG_CACHE_HOME", "~/.cache", "speech")


class Journal(ServerPart):
    """Whether live calls are written down, so that another worker can go on with them, and where. Left out, they are
    where there are several workers, or Redis. ``path`` may begin with ``~``.
    """

    in_words = "true, false or an object"

    enable: bool | None = None
    path: Name | None = None

    def folder(self) -> Path | None:
        """The ``path``, else agentd/calls in the user's folder for state; ``None`` for a user without a home."""
        return _folder(self.path, "XDG_STATE_HOME", "~/.local/state", "calls")


class Recordings(ServerPart):
    """Where the calls of agents with ``record`` are kept, and how much of them. What is older than so many ``days`` is
    removed, and the oldest beyond so many ``megabytes``. ``path`` may begin with ``~``.
    """

    path: Name | None = None
    days: Positive = 30
    megabytes: Positive = 1000

    def folder(self) -> Path | None:
        """The ``path``, else agentd/recordings in the user's folder for state; ``None`` for a user without a home."""
        return _folder(self.path, "XDG_STATE_HOME", "~/.local/state", "recordings")


Names = dict[
    Word,
    Annotated[App, shorthand("url")],
]


class Server(ServerPart):
    """The whole of ``agentd.yaml``. ``agents`` is the folder of the agents' files, beside it unless absolute."""

    process: Process = Field(default=Process(), validation_alias="server", serialization_alias="server")
    credentials: dict[str, Accounts] = Field(default_factory=dict)
    limits: Limits = Limits()
    defaults: Defaults = Defaults()
    apps: Names = Field(default_factory=dict)
    hooks: Hooks = Hooks()
    outgoing: Outgoing = Outgoing()
    access: Annotated[Access, BeforeValidator(Access.read)] = Access()
    jambonz: Jambonz | None = None
    redis: Annotated[Redis, shorthand("url")] | None = None
    events: Events = Events()
    logs: Logs = Logs()
    tracing: Annotated[Tracing, shorthand("endpoint")] = Tracing()
    console: Annotated[Console, shorthand("enable", bool)] = Console()
    turn: Turn = Turn()
    speech_cache: Annotated[SpeechCache, shorthand("enable", bool)] = SpeechCache()
    journal: Annotated[Journal, shorthand("enable", bool)] = Journal()
    recordings: Recordings = Recordings()
    agents: Name = "agents"

    def credential(self, vendor: str, label: str = "") -> dict[str, Any]:
        """What is configured for a vendor, by label where there are several; ``{}`` when there is nothing."""
        entries = self.credentials.get(vendor, [])
        return next((entry for entry in entries if entry.get("label", "") == label), {} if label else _first(entries))


def _first(entries: list[Secrets]) -> dict[str, Any]:
    return entries[0] if entries else Secrets()
