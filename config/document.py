"""A YAML or JSON text → plain data, the line of every key, ``${ENV}`` filled in. All faults, not just the first."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from config.problems import Path, dotted

_REFERENCE = re.compile(r"\$?\$\{([^}]*)\}?")
_VARIABLE = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?::-((?:(?!\$\{).)*))?", re.DOTALL)
# In `{apiKey: ${KEY}}` YAML would read the inner braces as its own. While it parses they are two private characters.
_OPEN, _CLOSE = "\ue000", "\ue001"
_WRAPPERS = ("agent", "pipeline", "function")  # objects that the models see through


class _Loader(yaml.SafeLoader):
    """YAML as its version 1.2 reads plain words: ``no`` and ``on`` are text, as in ``language: no``."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 (PyYAML's own name)


for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", "~nN\0"),
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9]+", "-+0123456789"),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", "-+.0123456789"),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"(?:{_pattern})$"), [*_first, ""])

_SCALARS: dict[str, Callable[[str], Any]] = {
    "tag:yaml.org,2002:str": str,
    "tag:yaml.org,2002:null": lambda _: None,
    "tag:yaml.org,2002:bool": lambda text: text.lower() == "true",
    "tag:yaml.org,2002:int": int,
    "tag:yaml.org,2002:float": float,
}
_TAGS = {*_SCALARS, "tag:yaml.org,2002:map", "tag:yaml.org,2002:seq"}


@dataclass(slots=True)
class Document:
    """``lines`` has the line (from 1) of every key and list entry; ``faults`` are ``(line, path, message)``."""

    data: Any = None
    lines: dict[Path, int] = field(default_factory=dict)
    variables: dict[Path, str] = field(default_factory=dict)
    faults: list[tuple[int | None, str, str]] = field(default_factory=list)

    def locate(self, path: Path) -> tuple[int | None, Path]:
        """The line of a path and the part of the path that the text really has."""
        at: Path = ()
        for step in path:
            wrapper = next((w for w in _WRAPPERS if (*at, w, step) in self.lines), None)
            if (*at, step) in self.lines:
                at = (*at, step)
            elif wrapper:
                at = (*at, wrapper, step)
            else:
                break
        return self.lines.get(at), at


def parse(text: str, env: Mapping[str, str], *, is_json: bool = False) -> Document:
    """Read one file's text. A document with ``faults`` has no usable data."""
    document = Document()
    if is_json and (fault := _json_fault(text)):
        document.faults.append(fault)
        return document
    try:
        # Valid JSON has tabs between its tokens only, where YAML wants spaces.
        node = yaml.compose(_masked(text.replace("\t", " ") if is_json else text), _Loader)
    except yaml.MarkedYAMLError as exc:
        # `str(exc)` would quote the text around the fault, and that may hold a key.
        mark = exc.problem_mark or exc.context_mark
        document.faults.append((mark.line + 1 if mark else None, "", f"not valid YAML: {exc.problem or exc.context}"))
    except (yaml.YAMLError, RecursionError) as exc:
        reason = "nested too deeply" if isinstance(exc, RecursionError) else "it has a character that YAML forbids"
        document.faults.append((None, "", f"not valid YAML: {reason}"))
    else:
        if node is None:
            document.faults.append((None, "", "the file is empty"))
        else:
            document.data = _Builder(document, env).build(node, (), ())
    return document


def _masked(text: str) -> str:
    return re.sub(r"\$\{([^{}\n]*)\}", rf"${_OPEN}\1{_CLOSE}", text)


def _unmasked(text: str) -> str:
    return re.sub(rf"\${_OPEN}([^{_CLOSE}]*){_CLOSE}", r"${\1}", text)


def _json_fault(text: str) -> tuple[int | None, str, str] | None:
    if not text.strip():
        return None, "", "the file is empty"
    try:
        json.loads(text)
    except json.JSONDecodeError as exc:
        return exc.lineno, "", f"not valid JSON: {exc.msg[0].lower()}{exc.msg[1:]}"
    except RecursionError:
        return None, "", "not valid JSON: nested too deeply"
    return None


@dataclass(slots=True)
class _Builder:
    document: Document
    env: Mapping[str, str]

    def build(self, node: Node, path: Path, above: tuple[Node, ...]) -> Any:
        if node in above:
            self._fault(node, path, "expected a value, got an alias of what it stands in")
            return None
        if node.tag not in _TAGS:
            self._fault(node, path, f"expected plain data, got the YAML tag {node.tag!r}")
            return None
        match node:
            case MappingNode():
                return self._mapping(node, path, (*above, node))
            case SequenceNode():
                for index, item in enumerate(node.value):
                    self.document.lines[(*path, index)] = item.start_mark.line + 1
                return [self.build(item, (*path, index), (*above, node)) for index, item in enumerate(node.value)]
            case _:
                return self._scalar(node, path)

    def _mapping(self, node: MappingNode, path: Path, above: tuple[Node, ...]) -> dict[str, Any]:
        built: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = _unmasked(key_node.value) if isinstance(key_node, ScalarNode) else None
            if key is None:
                self._fault(key_node, path, "expected a word as the key, got an object or a list")
                continue
            here = (*path, key)
            if key in built:
                self._fault(key_node, here, f"duplicate key; it stands on line {self.document.lines[here]} already")
                continue
            self.document.lines[here] = key_node.start_mark.line + 1
            built[key] = self.build(value_node, here, above)
        return built

    def _scalar(self, node: Node, path: Path) -> Any:
        text = _unmasked(str(node.value))
        if any("\ud800" <= character <= "\udfff" for character in text):  # JSON's escaped pairs
            text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        if "${" in text:
            # Stays text: what a variable holds can never change the structure of the file.
            return _REFERENCE.sub(lambda found: self._variable(found, node, path), text)
        try:
            return _SCALARS[node.tag](text)
        except (KeyError, ValueError):  # `!!int abc`, or a number of five thousand digits
            self._fault(node, path, f"expected what its tag {node.tag!r} says, got something else")
            return None

    def _variable(self, found: re.Match[str], node: Node, path: Path) -> str:
        if found[0].startswith("$$"):
            return found[0][1:]
        variable = _VARIABLE.fullmatch(found[1]) if found[0].endswith("}") else None
        if variable is None:
            self._fault(node, path, "expected ${NAME} or ${NAME:-default} (a plain ${ is written $${)")
            return ""
        name, default = variable[1], variable[2]
        self.document.variables[path] = found[0]
        value = self.env.get(name)
        if default is not None:
            return value or default
        if value is None:
            self._fault(node, path, f"the environment variable {name} is not set")
        return value or ""

    def _fault(self, node: Node, path: Path, message: str) -> None:
        self.document.faults.append((node.start_mark.line + 1, dotted(path), message))
