"""What applications of either generation are sent."""

import pytest

from config.payloads import (
    agent_response,
    completion,
    history_summarized,
    latencies,
    tool_call,
    turn_end,
    user_interruption,
    user_transcript,
)


def test_the_guides_example_is_sent_as_it_stands_there() -> None:
    assert turn_end(
        transcript="What's the weather in Portland?",
        confidence=0.998,
        response="The temperature in Portland is 52°F with wind at 12 km/h.",
        interrupted=False,
        latency={"stt_ms": 320, "eot_ms": 180, "llm_ms": 890, "tool_ms": 420, "tts_ms": 210},
        preflight={"result": "hit", "tokens": 12},
        tool_calls=[{"name": "get_weather", "rtt_ms": 420}],
        names="guide",
    ) == {
        "type": "turn_end",
        "transcript": "What's the weather in Portland?",
        "confidence": 0.998,
        "response": "The temperature in Portland is 52°F with wind at 12 km/h.",
        "interrupted": False,
        "latency": {
            "stt_ms": 320,
            "eot_ms": 180,
            "llm_ms": 890,
            "tool_ms": 420,
            "tts_ms": 210,
            "preflight": {"result": "hit", "tokens": 12},
        },
        "tool_calls": [{"name": "get_weather", "rtt_ms": 420}],
    }


def test_an_application_of_the_sdk_gets_the_keys_of_its_schema_and_no_others() -> None:
    assert turn_end(
        transcript="hi",
        confidence=0.9,
        response="hello",
        interrupted=True,
        latency={"stt_ms": 1, "eot_ms": None, "llm_ms": 3, "tts_ms": 4, "playout_ms": 5, "total_ms": 13},
        preflight={"result": "miss", "tokens": 4},
        tool_calls=[{"name": "t", "rtt_ms": 1}],
        names="sdk",
    ) == {
        "type": "turn_end",
        "transcript": "hi",
        "response": "hello",
        "interrupted": True,
        "latency": {
            "transcriber_latency": 1,
            "model_latency": 3,
            "voice_latency": 4,
            "preflight": {"result": "miss"},
        },
    }


def test_both_generations_stand_beside_each_other() -> None:
    assert latencies({"stt_ms": 2.0, "text_ms": 1.0, "total_ms": 3.0}) == {
        "stt_ms": 2,
        "text_ms": 1,
        "total_ms": 3,
        "transcriber_latency": 2,
    }
    assert agent_response("hi") == [
        {"type": "agent_response", "response": "hi"},
        {"type": "llm_response", "response": "hi"},
    ]
    assert [event["type"] for event in agent_response("hi", "sdk")] == ["llm_response"]
    assert [event["type"] for event in agent_response("hi", "guide")] == ["agent_response"]


@pytest.mark.parametrize(
    "parts",
    [
        [0.4, 0.4, 0.4, 0.4, 0.4, 0.4, 0.4],
        [0.6, 0.6, 0.6, 0.6, 0.6, 0.6, 0.6],
        [320.49, 180.49, 890.49, 0.0, 12.49, 210.49, 80.49],
        [0.5] * 7,
        [99.999] * 7,
    ],
)
def test_whole_milliseconds_add_up_to_the_whole_total(parts: list[float]) -> None:
    names = ["stt_ms", "eot_ms", "llm_ms", "tool_ms", "text_ms", "tts_ms", "playout_ms"]
    whole = latencies({**dict(zip(names, parts, strict=True)), "total_ms": sum(parts)}, names="guide")
    assert whole.pop("total_ms") == sum(whole.values()) == round(sum(parts))
    assert all(abs(whole[name] - part) < 1 for name, part in zip(names, parts, strict=True))


def test_parts_that_do_not_add_up_are_not_made_to() -> None:
    assert latencies({"stt_ms": 10.4, "tts_ms": 20.6, "total_ms": 900.0}, names="guide") == {
        "stt_ms": 10,
        "tts_ms": 21,
        "total_ms": 900,
    }


def test_the_last_payload_has_the_reason_under_both_names() -> None:
    assert completion("normal conversation end") == {
        "completion_reason": "normal conversation end",
        "completionReason": "normal conversation end",
    }
    assert completion("server failure", {"code": "x", "message": "m", "vendor": "v"}, "guide") == {
        "completion_reason": "server failure",
        "error": {"code": "x", "message": "m", "vendor": "v"},
    }
    assert completion("no_response", names="sdk") == {"completionReason": "no_response"}


def test_the_small_ones() -> None:
    assert user_transcript("hi") == {"type": "user_transcript", "transcript": "hi"}
    assert user_interruption() == {"type": "user_interruption"}
    assert tool_call("1", "f", {"a": 1}) == {"tool_call_id": "1", "name": "f", "arguments": {"a": 1}}
    assert history_summarized(turn=8, messages_dropped=5, messages_kept=6, summary="s") == {
        "type": "history_summarized",
        "turn": 8,
        "messages_dropped": 5,
        "messages_kept": 6,
        "summary": "s",
    }
