"""The tools that an agent's file may name and need not write: ``tools: [datetime, calculator]``.

Counterparts of jambonz's package ``@jambonz/tools``. A result is plain data for JSON; a failure is a result too,
``{"error": "expected …, got …"}``, because the model can put it right and an exception cannot.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from agentd.prebuilt.base import Answer, Http, Prebuilt, Result
from agentd.prebuilt.calculator import CalculationError, calculate, calculator_tool
from agentd.prebuilt.date_time import datetime_tool
from agentd.prebuilt.weather import weather_tool
from agentd.prebuilt.web_search import web_search_tool
from agentd.prebuilt.wikipedia import wikipedia_tool

__all__ = [
    "NAMES",
    "ONLINE",
    "PREBUILT",
    "Answer",
    "CalculationError",
    "Http",
    "Means",
    "Prebuilt",
    "Result",
    "calculate",
    "calculator_tool",
    "datetime_tool",
    "prebuilt",
    "weather_tool",
    "web_search_tool",
    "wikipedia_tool",
]


@dataclass(frozen=True, slots=True)
class Means:
    """What a call has for the tools that ask the web. An empty key is none."""

    http: Http
    tavily_key: str = field(default="", repr=False)


PREBUILT: dict[str, Prebuilt] = {built.tool.name: built for built in (datetime_tool(), calculator_tool())}

# Those that ask the web are made when a call begins; ``None`` where something that they need is missing.
ONLINE: Mapping[str, Callable[[Means], Prebuilt | None]] = {
    "weather": lambda means: weather_tool(means.http),
    "wikipedia": lambda means: wikipedia_tool(means.http),
    "web_search": lambda means: web_search_tool(means.http, means.tavily_key) if means.tavily_key else None,
}

NAMES = (*PREBUILT, *ONLINE)


def prebuilt(name: str, means: Means | None) -> Prebuilt | None:
    """The tool of this name, if there is one and the call has what it needs."""
    if name in PREBUILT:
        return PREBUILT[name]
    return ONLINE[name](means) if means is not None and name in ONLINE else None
