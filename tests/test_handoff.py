"""What the model is offered to put a caller through, and the verb that jambonz gets."""

from typing import Any

import pytest
from jambonz_sdk.validator import JambonzValidator

from agentd.call import handoff
from config.conversation import Handoff

PHONE = [{"type": "phone", "number": "+15085551234"}]


def made(**keys: Any) -> Handoff:
    return Handoff.parse({"mode": "warm", "target": PHONE, **keys})


def test_the_model_says_what_the_human_should_know_and_never_where_to() -> None:
    tool = handoff.offered(made())
    assert (tool.name, list(tool.parameters["properties"]), tool.parameters["required"]) == (
        "transfer_to_human",
        ["reason", "summary"],
        ["summary"],
    )


@pytest.mark.parametrize("keys", [{"brief": "none"}, {"mode": "blind"}])
def test_where_nobody_is_briefed_no_summary_is_asked_for(keys: dict[str, Any]) -> None:
    assert list(handoff.offered(made(**keys)).parameters["properties"]) == ["reason"]


def test_the_author_may_name_and_describe_the_tool_and_the_summary() -> None:
    tool = handoff.offered(made(toolName="to_sales", toolDescription="For orders.", brief={"template": "The order."}))
    assert (tool.name, tool.description) == ("to_sales", "For orders.")
    assert tool.parameters["properties"]["summary"]["description"] == "The order."


FORMS: list[tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = [
    ({}, {"summary": " Ada, about her bill. "}, {"mode": "warm", "brief": {"text": "Ada, about her bill."}}),
    ({}, {}, {"mode": "warm"}),
    ({"brief": "none"}, {"summary": "unasked"}, {"mode": "warm"}),
    ({"mode": "blind", "blindMethod": "dial"}, {"reason": "x"}, {"mode": "blind", "blindMethod": "dial"}),
    (
        {"briefSynthesizer": {"vendor": "google", "language": "en-US"}, "toolName": "up", "timeout": 20},
        {"summary": "Ada."},
        {
            "mode": "warm",
            "timeout": 20,
            "brief": {"text": "Ada.", "synthesizer": {"vendor": "google", "language": "en-US"}},
        },
    ),
    (
        {"confirm": {"prompt": "Press 1.", "digit": "1"}, "onHoldHook": "/hold", "disposition": {"onBusy": "return"}},
        {},
        {
            "mode": "warm",
            "confirm": {"prompt": "Press 1.", "digit": "1"},
            "onHoldHook": {"url": "/hold", "method": "POST"},
            "disposition": {"onBusy": "return"},
        },
    ),
    (
        {"actionHook": {"url": "/done", "basicAuth": {"username": "u", "password": "p"}}},
        {},
        {
            "mode": "warm",
            "actionHook": {"url": "/done", "method": "POST", "basicAuth": {"username": "u", "password": "p"}},
        },
    ),
]


@pytest.mark.parametrize(("keys", "arguments", "expected"), FORMS)
def test_the_verb_has_what_the_author_and_the_model_said(
    keys: dict[str, Any], arguments: dict[str, Any], expected: dict[str, Any]
) -> None:
    verb = handoff.verb(made(**keys), arguments)
    assert verb == {"verb": "transfer", "target": PHONE, **expected}
    assert JambonzValidator().validate_verb(verb) == []


def test_a_target_that_the_model_makes_up_goes_nowhere() -> None:
    arguments = {"target": [{"type": "phone", "number": "+1900"}], "mode": "blind", "callerId": "+1", "summary": "Hi."}
    assert handoff.verb(made(), arguments) == {
        "verb": "transfer",
        "mode": "warm",
        "target": PHONE,
        "brief": {"text": "Hi."},
    }


def test_a_brief_is_read_out_to_somebody_and_so_has_an_end() -> None:
    assert len(handoff.verb(made(), {"summary": "x" * 5_000})["brief"]["text"]) == handoff.BRIEF_LIMIT
