"""A call's own wishes: keys of the listen verb's ``metadata`` that are named as the agent verb's, and the agent verb
that an application answers a call with.

Nothing in here stops a call. What cannot be used is named in a warning, and the agent's file stands.
"""

import base64
import binascii
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from config.check import Fault, check
from config.merge import merge, merge_spec
from config.problems import Path, dotted
from config.redirect import names_host, redirects
from config.secrets import brings_secret
from config.verb import VERBS, Agent, unwrap

PACKED = "agentd_b64"  # all overrides as base64url JSON: jambonz's quoting of metadata can corrupt nested quotes
MAX_DEPTH = 64

# What jambonz itself puts into the first message of a listen socket, across its versions.
CALL_KEYS = frozenset(
    "sampleRate mixType callSid callId parentCallSid sbcCallid from to direction callerName callerId accountSid"
    " applicationSid serviceProviderSid callStatus sipStatus sipReason sipReasonHeader sip traceId fsSipAddress"
    " localSipAddress publicIp fsPublicIp originatingSipIp originatingSipTrunkName apiBaseUrl customerData env_vars"
    " envVars defaults service_url verb id".split()
) | {"callSecret"}  # the console's

_SPECS = ("stt", "llm", "tts")
_MERGED = ("bargeIn", "turnDetection", "languageConfig", "deadlines")
# The rest is replaced. A hook above all: the file's password must not follow the metadata's URL.


def apply_metadata(agent: Agent, metadata: Mapping[str, Any]) -> tuple[Agent, list[str]]:
    """The agent for one call, and a warning for everything that could not be used."""
    warnings: list[str] = []
    agent = _laid_over(agent, _overrides(metadata, warnings), warnings)
    return agent, [f"metadata: {warning}" for warning in warnings]


def apply_verb(agent: Agent, verb: Mapping[str, Any]) -> tuple[Agent, list[str]]:
    """The same with the agent verb that an application wants for this call: what it leaves out, the file says."""
    warnings: list[str] = []
    agent = _laid_over(agent, unwrap(verb).items(), warnings)
    return agent, [f"the application's agent verb: {warning}" for warning in warnings]


def _laid_over(agent: Agent, overrides: Iterable[tuple[str, Any]], warnings: list[str]) -> Agent:
    for key, value in overrides:
        if key not in Agent.key_names():
            if key not in CALL_KEYS:
                warnings += [_warn(fault) for fault in _faults_of_key(key)]
            continue
        if _too_deep(value):
            warnings.append(f"{key}: expected at most {MAX_DEPTH} levels")
        elif reason := _refusal(agent, key, value):
            warnings.append(f"{key}: refused: {reason}")
        else:
            agent = _with(agent, key, value, warnings)
    return agent


def _with(agent: Agent, key: str, value: Any, warnings: list[str]) -> Agent:
    """The agent with one key overridden; bad values inside an object are left out one by one."""
    given = {"turnDetection": {"mode": agent.turn_detection.mode}, **agent.given()}
    while value is not None:
        result = check(Agent, {**given, key: _merged(key, given.get(key), value)})
        if isinstance(result, Agent):
            return result
        warnings += [_warn(fault) for fault in result]
        for path in {_removable(value, fault.path[1:]) for fault in result}:
            value = _without(value, path)
    return agent


def _merged(key: str, base: Any, value: Any) -> Any:
    if not (isinstance(base, Mapping) and isinstance(value, Mapping)):
        return value
    if key in _SPECS:
        return merge_spec(base, value, elsewhere=names_host(value))
    if key == "languageConfig":
        return {**base, **{code: _voice(base.get(code), entry) for code, entry in value.items()}}
    return merge(base, value) if key in _MERGED else value


def _voice(base: Any, entry: Any) -> Any:
    if not (isinstance(base, Mapping) and isinstance(entry, Mapping) and isinstance(entry.get("tts"), Mapping)):
        return entry
    return {**entry, "tts": merge_spec(base.get("tts", {}), entry["tts"], elsewhere=names_host(entry["tts"]))}


def _removable(value: Any, path: Path) -> Path:
    """The smallest key of the override that holds what a fault points at; ``()`` for the override as a whole."""
    at: Path = ()
    for step in path:
        if not (isinstance(value, Mapping) and step in value):
            break
        at, value = (*at, step), value[step]
    return at


def _without(value: Any, path: Path) -> Any:
    if not path:
        return None
    if not (isinstance(value, Mapping) and path[0] in value):
        return value
    rest = _without(value[path[0]], path[1:])
    return {k: rest if k == path[0] else v for k, v in value.items() if k != path[0] or rest is not None}


def _refusal(agent: Agent, key: str, value: Any) -> str | None:
    if key == "app":
        return "only an agent's file names its application"
    if key == "record" and not agent.record and value not in (False, None):
        return "only an agent's file says that calls are recorded"  # a caller who does not want it may say so, too
    if key in ("noiseIsolation", "turnDetection") and _names_file(value):
        return "a file is named, and which of this machine's files are read is the operator's to say"
    if key in (*_SPECS, "languageConfig", "noiseIsolation", "handoff") and redirects(_judged(key, value)):
        return "a host is named without auth of its own, and the server's credentials stay with their hosts"
    if key == "tts" and names_host(value) and any(entry.tts.auth for entry in agent.language_config.values()):
        return "a host is named, and the credentials in languageConfig would go there"
    if key == "llm" and names_host(value) and brings_secret(agent.vendor_params):
        return "a host is named, and the credentials in vendorParams would go there"
    return None


def _names_file(value: Any) -> bool:
    match value:
        case Mapping():
            return any(_names_file(inner) for inner in value.values())
        case str():
            is_path = "/" in value or "\\" in value or value.lower().endswith((".kef", ".onnx"))
            return is_path and "://" not in value
        case _:
            return False


def _judged(key: str, value: Any) -> Any:
    # The addresses in a handoff (hooks, voicemail) take no vendor's credential; its voice does.
    if key == "handoff" and isinstance(value, Mapping):
        return {"briefSynthesizer": value.get("briefSynthesizer")}
    return value


def _overrides(metadata: Mapping[str, Any], warnings: list[str]) -> Iterator[tuple[str, Any]]:
    """Every key with its decoded value: first those packed together, then the plain ones, which win."""
    if PACKED in metadata:
        packed = _unpacked(metadata[PACKED])
        if packed is None:
            warnings.append(f"{PACKED}: expected an object as base64url JSON")
        yield from (packed or {}).items()
    for key, value in metadata.items():
        value = decoded(value)
        if key in VERBS and isinstance(value, Mapping):
            yield from value.items()
        elif key != PACKED:
            yield key, value


def decoded(value: Any) -> Any:
    """A metadata string as it was meant: jambonz escapes the strings (and only those) twice."""
    if not isinstance(value, str):
        return value
    for text in (value, _unescaped(value)):
        if text[:1] in ("{", "[") or text in ("true", "false"):
            try:
                return json.loads(text)
            except (ValueError, RecursionError):
                continue
    return _unescaped(value)


def _unescaped(text: str) -> str:
    if "\\" not in text:
        return text
    try:
        return str(json.loads(f'"{text}"', strict=False))
    except ValueError:
        return text  # a bare quote or an unknown escape: it was not escaped twice


def _unpacked(value: Any) -> dict[str, Any] | None:
    try:
        padded = str(value).encode("ascii") + b"=" * (-len(str(value)) % 4)
        data = json.loads(base64.urlsafe_b64decode(padded))
    except (ValueError, binascii.Error, RecursionError):
        return None
    return data if isinstance(data, dict) else None


def _too_deep(value: Any) -> bool:
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [
            inner
            for outer in level
            if isinstance(outer, Mapping | list)
            for inner in (outer.values() if isinstance(outer, Mapping) else outer)
        ]
        if not level:
            return False
    return True


def _faults_of_key(key: str) -> list[Fault]:
    result = check(Agent, {key: None, "id": None})  # two keys: one alone could be the verb's wrapper
    return result if isinstance(result, list) else []


def _warn(fault: Fault) -> str:
    return f"{dotted(fault.path)}: {fault}"
