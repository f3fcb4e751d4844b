"""The lines that `agentd serve` writes: for people, or one JSON object each."""

import json
import logging
import re
from collections.abc import Iterator
from contextvars import copy_context
from typing import Any

import pytest

from agentd import logs
from agentd.logs import CALL_SID, FieldsFormatter, JsonFormatter, set_up
from tests import virtual_time
from tests.command import code_of
from tests.whole_call import House, agent

log = logging.getLogger("agentd.test")


@pytest.fixture
def lines() -> Iterator[list[str]]:
    """What is logged as JSON."""
    found: list[str] = []

    class Kept(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append(self.format(record))

    handler, ours = Kept(), logging.getLogger("agentd")
    handler.setFormatter(JsonFormatter())
    ours.addHandler(handler)
    level = ours.level
    ours.setLevel("INFO")
    yield found
    ours.removeHandler(handler)
    ours.setLevel(level)


def only(lines: list[str]) -> dict[str, Any]:
    (line,) = lines
    assert "\n" not in line
    found: dict[str, Any] = json.loads(line, parse_constant=lambda constant: pytest.fail(constant))
    return found


def test_a_line_is_an_object_with_every_field(lines: list[str]) -> None:
    log.info("hook %s", "failed", extra={"hook": "tool", "after_ms": 12.5, "verbs": ["say"], "gone": None})
    found = only(lines)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", found.pop("time"))
    said = {"level": "info", "logger": "agentd.test", "message": "hook failed"}
    assert found == {**said, "hook": "tool", "after_ms": 12.5, "verbs": ["say"], "gone": None}


def test_an_exception_is_a_field(lines: list[str]) -> None:
    try:
        raise ValueError("first\nsecond")
    except ValueError:
        log.exception("crashed")
    found = only(lines)
    assert found["message"] == "crashed"
    assert found["exception"].startswith("Traceback") and found["exception"].endswith("ValueError: first\nsecond")


@pytest.mark.parametrize(
    "field",
    [object(), {1, 2}, float("nan"), {("a",): 1}, "half a \ud800 character", "two\u2028lines\r\n", b"bytes"],
    ids=["object", "set", "nan", "key", "surrogate", "lines", "bytes"],
)
def test_whatever_a_field_is_the_line_is_json(lines: list[str], field: object) -> None:
    log.warning("odd", extra={"field": field})
    assert only(lines)["message"] == "odd" and lines[0].isascii()


def test_a_field_does_not_write_over_what_every_line_has(lines: list[str]) -> None:
    log.info("real", extra={"level": "mine", "time": "never", "exception": "none"})
    found = only(lines)
    assert (found["level"], found["message"], found["exception"]) == ("info", "real", "none")
    assert found["time"] != "never"


def test_the_call_is_named_where_it_is_known(lines: list[str]) -> None:
    def of_a_call() -> None:
        CALL_SID.set("abc")
        log.info("in the call")
        log.info("of another", extra={"call_sid": "other"})

    copy_context().run(of_a_call)
    log.info("outside")
    assert [json.loads(line).get("call_sid") for line in lines] == ["abc", "other", None]


def test_every_line_of_a_call_names_it(lines: list[str]) -> None:
    house = House(agent(["hello"], [{"text": "", "error": "llm-bad-request"}]))

    async def main() -> None:
        async with house.call() as call:
            await call.until(lambda: house.logs)
            call.say(bytes(1600) + b"\x00\x40" * 8000)
            await call.until(lambda: house.entries("turn_failed"))

    virtual_time.run(main())
    said = {found["message"]: found["call_sid"] for found in map(json.loads, lines)}
    sid = house.logs[0].about["call_sid"]
    assert {"call began", "vendor failed", "reply failed", "call ended"} <= said.keys()
    assert set(said.values()) == {sid}


def test_lines_for_people_stay_as_they_are() -> None:
    record = logging.makeLogRecord({"msg": "hook failed", "hook": "tool", "why": "too late"})
    assert FieldsFormatter("%(message)s").format(record) == "hook failed hook=tool why='too late'"


@pytest.fixture
def handlers() -> Iterator[None]:
    root, ours = logging.getLogger(), logging.getLogger("agentd")
    before = list(root.handlers), root.level, ours.level
    yield
    root.handlers[:] = before[0]
    root.setLevel(before[1])
    ours.setLevel(before[2])


@pytest.mark.parametrize("form", ["text", "json"])
def test_the_format_may_be_set_again(form: logs.Format, handlers: None, capsys: pytest.CaptureFixture[str]) -> None:
    set_up("info", "json" if form == "text" else "text")
    set_up("info", form)
    log.info("hello", extra={"who": "me"})
    (line,) = capsys.readouterr().err.splitlines()
    assert (line[0] == "{") == (form == "json") and "me" in line


def test_an_unknown_format_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert code_of("serve", "--log-format", "xml") == 2
    assert "--log-format: invalid choice: 'xml'" in capsys.readouterr().err
