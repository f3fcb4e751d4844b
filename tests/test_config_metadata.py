"""What a call may change for itself, and what it may not."""

import base64
import json
from typing import Any

import pytest

from config.llm import Llm
from config.metadata import apply_metadata, apply_verb, decoded
from config.verb import Agent

SECRET = "sk-file"
FILE = Agent.parse(
    {
        "stt": {"vendor": "deepgram", "language": "en-US", "auth": {"apiKey": SECRET}, "hints": ["a", "b"]},
        "llm": {
            "vendor": "openai",
            "model": "gpt-4.1-mini",
            "auth": {"apiKey": SECRET, "organization": "o"},
            "llmOptions": {"systemPrompt": "Be kind.", "temperature": 0.2, "vendorParams": {"user": SECRET}},
        },
        "tts": {"vendor": "cartesia", "voice": "v", "options": {"apiKey": SECRET}},
        "bargeIn": {"minSpeechDuration": 0.7},
        "toolHook": {"url": "https://app/tool", "username": "u", "password": SECRET},
    }
)
REFUSED = "refused: a host is named without auth of its own, and the server's credentials stay with their hosts"


def given(metadata: dict[str, Any]) -> dict[str, Any]:
    """What the agent is made of after metadata that is taken without a warning."""
    agent, warnings = apply_metadata(FILE, metadata)
    assert warnings == []
    return agent.given()


def test_objects_merge_key_by_key_and_everything_else_replaces() -> None:
    made = given(
        {
            "llm": {"llmOptions": {"systemPrompt": "Be brief."}},
            "stt": {"language": "de-DE", "hints": ["c"]},
            "bargeIn": {"sticky": True},
            "greeting": "Guten Tag!",
        }
    )
    assert made["llm"]["llmOptions"] == {
        "systemPrompt": "Be brief.",
        "temperature": 0.2,
        "vendorParams": {"user": SECRET},
    }
    assert made["stt"] == {
        "vendor": "deepgram",
        "language": "de-DE",
        "auth": {"apiKey": SECRET},
        "hints": [{"phrase": "c"}],
    }
    assert made["bargeIn"] == {"minSpeechDuration": 0.7, "sticky": True}
    assert made["greeting"] == {"text": "Guten Tag!"}


def test_jambonz_own_keys_pass_in_silence() -> None:
    call = {"sampleRate": 8000, "mixType": "mono", "callSid": "c", "from": "1", "to": "2", "direction": "inbound"}
    assert apply_metadata(FILE, call) == (FILE, [])
    assert apply_metadata(FILE, {"customerData": {"llm": "x"}, "traceId": "t", "accountSid": "a"}) == (FILE, [])


def test_strings_are_read_through_jambonz_second_escaping() -> None:
    twice = json.dumps(json.dumps({"llmOptions": {"systemPrompt": 'Say "hi"\nand wait.'}}))[1:-1]
    assert given({"llm": twice})["llm"]["llmOptions"]["systemPrompt"] == 'Say "hi"\nand wait.'
    assert given({"greeting": 'He said \\"hi\\"'})["greeting"] == {"text": 'He said "hi"'}
    assert given({"greeting": "false"})["greeting"] == {"enable": False}
    assert given({"noResponseTimeout": "5"})["noResponseTimeout"] == 5


@pytest.mark.parametrize(
    ("value", "meant"),
    [
        ('{"a": "b\\n"}', {"a": "b\n"}),  # escaped once, as it should have been
        ('{\\"a\\": 1}', {"a": 1}),
        ("[not json", "[not json"),
        ("C:\\dir", "C:\\dir"),
        ('a "quote"', 'a "quote"'),
        ("[" * 8000, "[" * 8000),
        (7, 7),
    ],
)
def test_decoding_guesses_nothing(value: Any, meant: Any) -> None:
    assert decoded(value) == meant


def test_packed_overrides_come_first_and_plain_keys_win() -> None:
    packed = base64.urlsafe_b64encode(b'{"speak": false, "noResponseTimeout": 3}').decode().rstrip("=")
    made = given({"noResponseTimeout": 4, "agentd_b64": packed})
    assert (made["speak"], made["noResponseTimeout"]) == (False, 4)
    assert given({"agent": {"speak": False}})["speak"] is False


def test_what_cannot_be_used_is_a_warning_and_the_file_stands() -> None:
    agent, warnings = apply_metadata(
        FILE,
        {
            "bargein": {"sticky": True},
            "orderId": 7,
            "bargeIn": {"minSpeechDuration": "abc", "sticky": True, "stikcy": 1},
            "turnDetection": {"threshold": 0.4},
            "llm": {"fallback": [{"vendor": "x", "modell": 1}, {"lable": 2}], "model": "gpt-4.1"},
            "speak": "perhaps",
            "greeting": None,
            "agentd_b64": "***",
        },
    )
    assert warnings == [
        "metadata: agentd_b64: expected an object as base64url JSON",
        "metadata: bargein: unknown key; did you mean bargeIn?",
        "metadata: orderId: unknown key",
        "metadata: bargeIn.minSpeechDuration: expected a number of seconds ≥ 0, got 'abc'",
        "metadata: bargeIn.stikcy: unknown key; did you mean sticky?",
        "metadata: llm.fallback[0].modell: unknown key; did you mean model?",
        "metadata: llm.fallback[1].vendor: expected text that is not empty, but it is missing",
        "metadata: llm.fallback[1].lable: unknown key; did you mean label?",
        "metadata: speak: expected true or false, got 'perhaps'",
    ]
    assert agent.barge_in.min_speech_duration == 0.7 and agent.barge_in.sticky
    assert (agent.turn_detection.mode, agent.turn_detection.threshold) == ("stt", 0.4)
    assert agent.llm.model == "gpt-4.1" and agent.llm.fallback == [] and agent.greeting.enable


@pytest.mark.parametrize(
    "override",
    [
        {"llm": {"connectOptions": {"baseURL": "https://evil.example/v1"}}},
        {"llm": json.dumps({"connectOptions": {"baseURL": "https://evil.example/v1"}})},
        {"agent": {"llm": {"connectOptions": {"endpoint": "evil.example"}}}},
        {"agentd_b64": base64.urlsafe_b64encode(b'{"llm": {"connectOptions": {"baseURL": "//evil"}}}').decode()},
        {"llm": {"auth": {}, "connectOptions": {"baseURL": "https://evil.example/v1"}}},
        {"llm": {"auth": {"apiKey": ""}, "connectOptions": {"baseURL": "https://evil.example/v1"}}},
        {"llm": {"auth": {"region": "eu"}, "connectOptions": {"baseURL": "https://evil.example/v1"}}},
        {"llm": {"llmOptions": {"vendorParams": {"api_base": "evil.example"}}}},
        {"llm": {"model": "https://evil.example/m"}},
        {
            "llm": {
                "auth": {"apiKey": "k"},
                "fallback": [{"vendor": "x", "connectOptions": {"baseURL": "https://evil"}}],
            }
        },
        {"stt": {"deepgramOptions": {"url": "wss://evil.example"}}},
        {"stt": {"azureServiceEndpoint": "evil.example"}},
        {"stt": {"azureOptions": {"region": "evil.example/#"}}},
        {"tts": {"options": {"nested": [{"host": "evil.example"}]}}},
        {"languageConfig": {"es": {"tts": {"options": {"url": "wss://evil.example"}}}}},
        {"noiseIsolation": {"mode": "kugelaudio", "auth": {"apiUri": "evil.example"}}},
        {"handoff": {"mode": "warm", "target": [{}], "briefSynthesizer": {"options": {"url": "wss://evil.example"}}}},
    ],
)
def test_an_override_may_not_send_a_credential_elsewhere(override: dict[str, Any]) -> None:
    agent, warnings = apply_metadata(FILE, override)
    assert agent == FILE
    assert len(warnings) == 1 and warnings[0].endswith(REFUSED)


def test_a_host_that_brings_its_own_key_gets_that_key_and_nothing_of_ours() -> None:
    override = {"auth": {"apiKey": "theirs"}, "connectOptions": {"baseURL": "https://their.example/v1"}}
    made = given({"llm": override, "tts": {"auth": {"apiKey": "theirs"}, "options": {"url": "wss://their.example"}}})
    assert made["llm"] == {
        "vendor": "openai",
        "model": "gpt-4.1-mini",
        "llmOptions": {"systemPrompt": "Be kind.", "temperature": 0.2},
        **override,
    }
    assert SECRET not in json.dumps([made["llm"], made["tts"]])


def test_another_vendor_does_not_get_the_files_key() -> None:
    agent, _ = apply_metadata(FILE, {"llm": {"vendor": "groq"}, "tts": {"label": "eu", "vendor": "rime"}})
    assert SECRET not in json.dumps([agent.llm.given(), agent.tts.given()])
    assert agent.llm.llm_options.system_prompt == "Be kind."


def test_the_password_of_a_hook_does_not_follow_another_url() -> None:
    assert given({"toolHook": "https://evil.example/"})["toolHook"] == {"url": "https://evil.example/"}
    assert given({"toolHook": {"url": "https://evil.example/"}})["toolHook"] == {"url": "https://evil.example/"}


def test_credentials_that_lie_elsewhere_in_the_file_do_not_follow_a_host_either() -> None:
    host = {"auth": {"apiKey": "theirs"}, "options": {"url": "wss://their.example"}}
    voices = Agent.parse({"tts": {"vendor": "a"}, "languageConfig": {"es": {"tts": {"auth": {"apiKey": SECRET}}}}})
    assert apply_metadata(voices, {"tts": host}) == (
        voices,
        ["metadata: tts: refused: a host is named, and the credentials in languageConfig would go there"],
    )
    params = Agent.parse({"llm": {"vendor": "a"}, "vendorParams": {"headers": {"Authorization": SECRET}}})
    agent, warnings = apply_metadata(
        params, {"llm": {"auth": {"apiKey": "k"}, "connectOptions": {"baseURL": "https://h"}}}
    )
    assert agent == params and len(warnings) == 1


def test_text_for_the_model_may_speak_of_addresses() -> None:
    options = {"systemPrompt": "See https://example.com", "tools": [{"name": "open", "parameters": {"url": {}}}]}
    assert given({"llm": {"llmOptions": options}})["llm"]["llmOptions"]["systemPrompt"] == "See https://example.com"


def test_depth_is_bounded() -> None:
    deep: dict[str, Any] = {}
    for _ in range(3000):
        deep = {"a": deep}
    assert apply_metadata(FILE, {"vendorParams": deep}) == (
        FILE,
        ["metadata: vendorParams: expected at most 64 levels"],
    )


def test_the_file_itself_is_not_changed() -> None:
    before = FILE.given()
    apply_metadata(FILE, {"llm": {"model": "x"}, "stt": {"hints": []}})
    assert FILE.given() == before and FILE.llm == Llm.parse(before["llm"])


@pytest.mark.parametrize(
    "override",
    [
        {"turnDetection": {"mode": "krisp", "model": "/etc/passwd"}},
        {"turnDetection": {"mode": "krisp", "model": "mine.onnx"}},
        {"turnDetection": {"mode": "krisp", "model": "..\\mine"}},
        {"noiseIsolation": {"mode": "krisp", "model": "mine.KEF"}},
        {"noiseIsolation": {"mode": "krisp", "auth": {"noiseModelPath": "/etc/shadow", "apiKey": "k"}}},
    ],
)
def test_a_call_names_no_file_of_this_machine(override: dict[str, Any]) -> None:
    agent, warnings = apply_metadata(Agent(), override)
    (key,) = override
    assert agent == Agent()
    why = "a file is named, and which of this machine's files are read is the operator's to say"
    assert warnings == [f"metadata: {key}: refused: {why}"]


def test_a_call_may_say_no_to_being_recorded_but_only_a_file_says_yes() -> None:
    recorded, plain = Agent(record=True), Agent()
    why = "record: refused: only an agent's file says that calls are recorded"
    for yes in (True, "true", 1, "on"):
        assert apply_metadata(plain, {"record": yes}) == (plain, [f"metadata: {why}"])
        assert apply_verb(plain, {"record": yes}) == (plain, [f"the application's agent verb: {why}"])
        assert apply_metadata(recorded, {"record": yes})[0].record
    for no in (False, "false"):
        agent, warnings = apply_metadata(recorded, {"record": no})
        assert (agent.record, warnings) == (False, [])
        assert apply_metadata(plain, {"record": no})[1] == []
    said_no, _ = apply_metadata(recorded, {"record": False})
    assert apply_verb(said_no, {"record": True}) == (said_no, [f"the application's agent verb: {why}"])
    packed = base64.urlsafe_b64encode(b'{"record": false}').decode()
    assert apply_metadata(recorded, {"agentd_b64": packed, "record": True})[0].record is False
