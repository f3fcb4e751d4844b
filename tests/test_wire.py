"""The listen socket's text messages."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentd.call.audio import RATES
from agentd.errors import CallRefused
from agentd.jambonz import wire
from tests.jambonz import metadata

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
KEYS = st.sampled_from(["sampleRate", "mixType", "callSid", "event", "dtmf", "type", "data", "name"])


def test_the_first_message_says_what_the_audio_is() -> None:
    info = wire.metadata(json.dumps(metadata(sampleRate=16000, mixType="stereo", callSid="c1", colour="red")))
    assert (info.call_sid, info.rate, info.channels, info.metadata["colour"]) == ("c1", 16000, 2, "red")


def test_a_call_without_an_id_gets_one() -> None:
    one, other = (wire.metadata('{"sampleRate": 8000}').call_sid for _ in range(2))
    assert one != other


@pytest.mark.parametrize("rate", [8000, "8000", 8000.0])
def test_a_rate_may_be_text(rate: object) -> None:
    assert wire.metadata(json.dumps({"sampleRate": rate})).rate == 8000


@pytest.mark.parametrize(("asked", "rate"), [(None, 16000), ("8000", 8000), ("64000", 64000)])
def test_we_send_at_the_rate_of_the_query(asked: str | None, rate: int) -> None:
    assert wire.playback_rate(asked, 16000) == rate


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"event": "dtmf", "dtmf": "5", "duration": "1600"}', wire.Dtmf("5")),
        ('{"event": "dtmf", "dtmf": 5}', wire.Dtmf("5")),
        ('{"event": "dtmf", "dtmf": "55"}', None),
        ('{"event": "dtmf", "dtmf": true}', None),
        ('{"type": "mark", "data": {"name": "a", "event": "playout"}}', wire.MarkReached("a", "playout")),
        ('{"type": "mark", "data": {"name": "a", "event": "cleared"}}', wire.MarkReached("a", "cleared")),
        ('{"type": "playDone", "data": {"id": "a"}}', None),
        ("[" * 100_000, None),
        ("", None),
    ],
    ids=lambda value: str(value)[:40],
)
def test_later_messages(text: str, message: object) -> None:
    assert wire.message(text) == message


@given(st.dictionaries(KEYS, JSON, max_size=4) | JSON)
def test_any_json_is_a_call_or_is_refused(found: object) -> None:
    text = json.dumps(found)
    try:
        info = wire.metadata(text)
    except CallRefused as exc:
        assert str(exc).startswith("expected ")
    else:
        assert info.rate in RATES
    wire.message(text)


@given(st.text() | st.binary().map(lambda data: data.decode("utf-8", "surrogateescape")))
def test_any_text_is_a_call_or_is_refused(text: str) -> None:
    with pytest.raises(CallRefused):
        wire.metadata(text)
    assert wire.message(text) is None


@pytest.mark.parametrize("rate", [math.nan, math.inf, -8000, 1e300, True, {}, [], "８０００Hz", "9" * 5000])
def test_what_is_no_rate_is_refused(rate: object) -> None:
    with pytest.raises(CallRefused, match="expected sampleRate to be one of 8000"):
        wire.metadata(json.dumps({"sampleRate": rate}))
