"""Every name that we send: the events, the tool call and the last payload, in both generations of names, and the
messages of the control socket that carry them.

Plain functions that return plain dicts. ``names`` is the server's ``events.names``: ``guide``, ``sdk`` or ``both``.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

Names = Literal["guide", "sdk", "both"]
Payload = dict[str, Any]

# The guide's own names: what we send beyond the published schemas, unless `events.names` is `sdk`.
GUIDE_EVENTS = ("agent_response", "history_summarized")
GUIDE_KEYS: Mapping[str, tuple[str, ...]] = {
    "turn_end": ("confidence", "tool_calls"),
    "latency": ("stt_ms", "eot_ms", "llm_ms", "tool_ms", "text_ms", "tts_ms", "playout_ms", "total_ms"),
    "completion": ("completion_reason",),
}

# What the eventHook hears, by type, and the keys of it. Entries of a call's log have more, which are its own.
EVENTS: Mapping[str, tuple[str, ...]] = {
    "user_transcript": ("transcript",),
    "agent_response": ("response",),
    "llm_response": ("response",),
    "user_interruption": (),
    "turn_end": ("transcript", "confidence", "response", "interrupted", "latency", "tool_calls"),
    "history_summarized": ("turn", "messages_dropped", "messages_kept", "summary"),
}

# The metadata of a listen socket that every hook is told, under the names that webhooks have for it.
CALL_INFO: Mapping[str, str] = {
    "callSid": "call_sid",
    "accountSid": "account_sid",
    "applicationSid": "application_sid",
    "direction": "direction",
    "from": "from",
    "to": "to",
    "callerName": "caller_name",
    "callId": "call_id",
    "sbcCallid": "sbc_callid",
    "parentCallSid": "parent_call_sid",
    "callStatus": "call_status",
    "sipStatus": "sip_status",
    "sipReason": "sip_reason",
    "traceId": "trace_id",
    "originatingSipIp": "originating_sip_ip",
    "originatingSipTrunkName": "originating_sip_trunk_name",
    "apiBaseUrl": "api_base_url",
    "customerData": "customerData",
}


def call_info(metadata: Mapping[str, Any], call_sid: str) -> Payload:
    """What every hook is told of the call, from the first message of its listen socket."""
    info = {name: metadata[key] for key, name in CALL_INFO.items() if metadata.get(key) is not None}
    return {**info, "call_sid": call_sid}


def event(entry: Mapping[str, Any]) -> Payload | None:
    """An entry of a call's log as the eventHook hears it; ``None`` for what it does not hear."""
    keys = EVENTS.get(str(entry["type"]))
    return None if keys is None else {key: entry[key] for key in ("type", *keys) if key in entry}


def message(type_: str, call_sid: str, msgid: str, data: Any, hook: str | None = None) -> Payload:
    """One message of the control socket, jambonz → application; ``hook`` is the path that the application named."""
    told = {} if hook is None else {"hook": hook}
    return {"type": type_, "msgid": msgid, "call_sid": call_sid, **told, "data": data}


# Guide's name → the newer SDK's. The parts add up to total_ms, in this order of a turn.
PARTS: Mapping[str, str | None] = {
    "stt_ms": "transcriber_latency",
    "eot_ms": "turn_detection_latency",
    "llm_ms": "model_latency",
    "tool_ms": None,
    "text_ms": None,  # first token → first text handed to the TTS
    "tts_ms": "voice_latency",
    "playout_ms": None,
}


def user_transcript(transcript: str) -> Payload:
    """The caller's turn has ended and the model is about to be prompted."""
    return {"type": "user_transcript", "transcript": transcript}


def agent_response(response: str, names: Names = "both") -> list[Payload]:
    """The model has answered. One event per generation: their applications listen for different types."""
    types = {"guide": ["agent_response"], "sdk": ["llm_response"], "both": ["agent_response", "llm_response"]}
    return [{"type": name, "response": response} for name in types[names]]


def user_interruption() -> Payload:
    """The caller has interrupted the agent."""
    return {"type": "user_interruption"}


def turn_end(
    *,
    transcript: str,
    response: str,
    interrupted: bool,
    latency: Mapping[str, float | None],
    preflight: Mapping[str, Any] | None = None,
    confidence: float | None = None,
    tool_calls: Sequence[Mapping[str, Any]] = (),
    names: Names = "both",
) -> Payload:
    """The summary of one turn.

    ``latency`` has the guide's parts and ``total_ms`` in milliseconds; a part that is ``None`` is left out.
    ``preflight`` is ``{"result": "hit" | "miss" | "pending", "tokens": int}``; ``tool_calls`` are ``{name, rtt_ms}``.
    """
    payload: Payload = {"type": "turn_end", "transcript": transcript}
    if confidence is not None and names != "sdk":  # the SDK's schema allows no key of the guide's
        payload["confidence"] = confidence
    payload |= {"response": response, "interrupted": interrupted, "latency": latencies(latency, preflight, names)}
    if tool_calls and names != "sdk":
        payload["tool_calls"] = [{"name": call["name"], "rtt_ms": round(call["rtt_ms"])} for call in tool_calls]
    return payload


def latencies(
    latency: Mapping[str, float | None], preflight: Mapping[str, Any] | None = None, names: Names = "both"
) -> Payload:
    """The latency object, in whole milliseconds whose parts add up as the unrounded ones did."""
    whole = _whole({name: latency[name] for name in (*PARTS, "total_ms") if latency.get(name) is not None})
    payload: Payload = dict(whole) if names != "sdk" else {}
    if names != "guide":
        payload |= {newer: whole[name] for name, newer in PARTS.items() if newer and name in whole}
    if preflight is not None:
        hit = preflight.get("result") == "hit" and preflight.get("tokens") is not None
        payload["preflight"] = {"result": preflight["result"], **({"tokens": preflight["tokens"]} if hit else {})}
    return payload


def history_summarized(*, turn: int, messages_dropped: int, messages_kept: int, summary: str) -> Payload:
    """Older turns were replaced by a summary."""
    return {
        "type": "history_summarized",
        "turn": turn,
        "messages_dropped": messages_dropped,
        "messages_kept": messages_kept,
        "summary": summary,
    }


def tool_call(tool_call_id: str, name: str, arguments: Any) -> Payload:
    """What the toolHook is asked; ``arguments`` are parsed already."""
    return {"tool_call_id": tool_call_id, "name": name, "arguments": arguments}


def speech_detected(transcript: str, confidence: float | None, language: str, vendor: str) -> Payload:
    """What the hook of `bargeIn` hears of the caller's words, as that of a `gather` does."""
    said: Payload = {"transcript": transcript}
    if confidence is not None:
        said["confidence"] = confidence
    speech = {"language_code": language, "channel_tag": 1, "is_final": True, "alternatives": [said]}
    return {"reason": "speechDetected", "speech": {**speech, "vendor": {"name": vendor}}}


def dtmf_detected(digits: str) -> Payload:
    """The same of the caller's keys."""
    return {"reason": "dtmfDetected", "digits": digits}


def tts_spoken(text: str, *, is_interrupted: bool) -> Payload:
    """What the caller heard of an utterance."""
    return {"event_type": "tts_spoken", "text": text, "bargein": is_interrupted}


def completion(reason: str, error: Mapping[str, Any] | None = None, names: Names = "both") -> Payload:
    """The actionHook's payload: why the agent ended. ``error`` is ``{code, message, vendor}``."""
    keys = {
        "guide": ["completion_reason"],
        "sdk": ["completionReason"],
        "both": ["completion_reason", "completionReason"],
    }
    payload: Payload = dict.fromkeys(keys[names], reason)
    if error is not None:
        payload["error"] = {key: error.get(key) for key in ("code", "message", "vendor")}
    return payload


def _whole(exact: Mapping[str, float | None]) -> dict[str, int]:
    """Round by largest remainder: where the exact parts add up to the total within 1 ms, the whole ones do so, too."""
    values = {name: float(value) for name, value in exact.items() if value is not None}
    total = values.pop("total_ms", None)
    whole = {name: round(value) for name, value in values.items()}
    if total is None:
        return whole
    if abs(total - sum(values.values())) <= 1:
        short = round(total) - sum(int(value) for value in values.values())
        by_remainder = sorted(values, key=lambda name: int(values[name]) - values[name])
        whole = {name: int(value) for name, value in values.items()}
        for name in by_remainder[: max(0, short)]:
            whole[name] += 1
    return {**whole, "total_ms": round(total)}
