"""The tool `datetime`: what time it is, and where."""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from agentd.prebuilt.base import Prebuilt, Result
from providers.base import Tool

TIME_QUESTIONS = (
    *("what time is it", "what time is it now", "what day is it", "what day is it today", "what is the date"),
    *("what is the date today", "what is today's date"),
)


def _utc_now() -> datetime:
    return datetime.now(UTC)


def datetime_tool(now: Callable[[], datetime] = _utc_now) -> Prebuilt:
    """``now`` returns an aware datetime. Without a timezone the answer is in the server's own."""

    async def execute(arguments: Mapping[str, Any]) -> Result:
        name = arguments.get("timezone") or None
        try:
            there = now().astimezone(_zone(name) if name is not None else None)
        except ValueError as exc:
            return {"error": str(exc)}
        return {
            "datetime": there.isoformat(timespec="seconds"),
            "weekday": there.strftime("%A"),
            "date": there.date().isoformat(),
            "time": there.strftime("%H:%M"),
            "timezone": name or there.tzname(),
        }

    tool = Tool(
        name="datetime",
        description="Get the current date, time and day of the week, in a timezone or where the server is.",
        parameters={
            "type": "object",
            "properties": {
                "timezone": {"type": "string", "description": "IANA name, e.g. America/New_York, Europe/Berlin"}
            },
            "additionalProperties": False,
        },
    )
    return Prebuilt(tool, execute, TIME_QUESTIONS)


def _zone(name: Any) -> ZoneInfo:
    # Only names of this form reach the file system, and zoneinfo keeps them inside of its own directories.
    if isinstance(name, str) and re.fullmatch(r"[A-Za-z0-9_+\-]{1,40}(/[A-Za-z0-9_+\-]{1,40}){0,2}", name):
        try:
            return ZoneInfo(name)
        except (KeyError, ValueError, OSError):  # not found; malformed; a directory such as "America"
            pass
    raise ValueError(f"expected timezone to be an IANA name such as Asia/Tokyo, got {str(name)[:60]!r}")
