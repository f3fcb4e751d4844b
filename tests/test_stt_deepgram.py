"""Deepgram's recognisers: what they are asked for, and what their messages mean to a call."""

import asyncio
import json
from collections.abc import Mapping
from contextlib import aclosing
from typing import Any

import pytest

from providers import deepgram_sdk
from providers.audio_feed import AudioFeed, Mark
from providers.base import Eager, Final, Partial, ProviderError, Resumed, SttEvent, SttSpec
from providers.registry import Shared, make_stt
from providers.stt import deepgram, flux
from providers.stt.deepgram import MOST_TERM_CHARACTERS, MOST_TERMS, Nova
from providers.stt.flux import Flux
from tests import virtual_time
from tests.vendors.canary import canary as canary
from tests.vendors.deepgram_stt import DeepgramServer, FluxServer, query
from tests.vendors.rows import KEY, stt_spec
from tests.vendors.script import Script

SPEC = SttSpec("deepgram", credentials={"apiKey": KEY})


def spec(**fields: Any) -> SttSpec:
    return SttSpec(**{"vendor": "deepgram", "credentials": {"apiKey": KEY}, **fields})


def asked(**fields: Any) -> dict[str, Any]:
    """What is asked for with these fields and not without."""
    before = deepgram.to_wire(SPEC)
    return {name: value for name, value in deepgram.to_wire(spec(**fields)).items() if before.get(name) != value}


# To the wire ----------------------------------------------------------------------------------------------


def test_nova_is_asked_for_partials_pauses_and_readable_text() -> None:
    assert deepgram.to_wire(SPEC) == {
        "model": "nova-3",
        "language": "en-US",
        "encoding": "linear16",
        "sample_rate": 16000,
        "channels": 1,
        "interim_results": True,
        "punctuate": True,
        "smart_format": True,
        "no_delay": True,
        "endpointing": 300,
        "utterance_end_ms": 1000,
        "vad_events": True,
    }


def test_the_recognizers_own_options_go_out_in_the_vendors_words() -> None:
    options = {
        "smartFormatting": False,
        "noDelay": False,
        "profanityFilter": True,
        "redact": ["pci", "ssn"],
        "endpointing": 500,
        "utteranceEndMs": 1500,
        "vadTurnoff": 100,
        "tag": "front-desk",
        "fillerWords": True,
        "numerals": True,
        "mipOptOut": True,
        "diarizeVersion": "latest",
        "somethingNew": 7,
        "shortUtterance": True,
        "version": None,
    }
    assert asked(options=options) == {
        "smart_format": False,
        "no_delay": False,
        "profanity_filter": True,
        "redact": ["pci", "ssn"],
        "endpointing": 500,
        "utterance_end_ms": 1500,
        "vad_turnoff": 100,
        "tag": "front-desk",
        "filler_words": True,
        "numerals": True,
        "mip_opt_out": True,
        "diarize_version": "latest",
        "something_new": 7,
    }


@pytest.mark.parametrize(
    ("fields", "model"),
    [
        ({"model": "nova-2"}, "nova-2"),
        ({"options": {"model": "nova-2"}}, "nova-2"),
        ({"options": {"customModel": "96a295ec", "model": "nova-2"}}, "96a295ec"),
        ({"model": "nova-3-medical", "options": {"model": "nova-2"}}, "nova-3-medical"),
    ],
)
def test_the_model_of_the_agent_wins(fields: dict[str, Any], model: str) -> None:
    assert deepgram.to_wire(spec(**fields))["model"] == model


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"language": "de-DE"}, {"language": "de"}),
        ({"language": "pt-BR"}, {"language": "pt-BR"}),
        ({"language": "es"}, {"language": "es"}),
        ({"language": "multi"}, {"language": "multi"}),
        ({"languages": ("es-ES", "fr")}, {"language": "multi", "language_hint": ["en", "es", "fr"]}),
        ({"languages": ("en-GB",)}, {}),
        ({"languages": ("es",), "model": "nova-2"}, {"language": "multi", "model": "nova-2"}),
        ({"languages": ("de",), "model": "nova-2"}, {"model": "nova-2"}),
        (
            {"language": "multi", "options": {"languageHints": ["en", "es"]}},
            {"language": "multi", "language_hint": ["en", "es"]},
        ),
    ],
)
def test_languages_are_named_as_the_model_knows_them(fields: dict[str, Any], expected: dict[str, Any]) -> None:
    assert asked(**fields) == expected


def test_hints_are_key_terms_or_for_older_models_keywords() -> None:
    fields: dict[str, Any] = {"hints": ("Zaphod", "Ford Prefect"), "options": {"keyterms": ["Arthur", "Zaphod"]}}
    assert asked(**fields) == {"keyterm": ["Arthur", "Zaphod", "Ford Prefect"]}
    assert asked(**fields, model="nova-2") == {
        "model": "nova-2",
        "keywords": ["Arthur", "Zaphod", "Ford Prefect"],
    }
    boosted = {"keywords": ["Trillian:2", "Marvin"]}
    assert asked(options=boosted) == {"keyterm": ["Trillian", "Marvin"]}
    assert asked(options=boosted, model="nova-2-phonecall")["keywords"] == ["Trillian:2", "Marvin"]


def test_no_more_hints_are_sent_than_a_request_may_have() -> None:
    many = tuple(f"word{n}" for n in range(500))
    assert len(asked(hints=many)["keyterm"]) == MOST_TERMS
    long = tuple(f"{n} {'x' * 200}" for n in range(50))
    assert sum(map(len, asked(hints=(*long, "short"))["keyterm"])) <= MOST_TERM_CHARACTERS


def test_an_utterance_end_is_asked_for_only_with_partials() -> None:
    assert "utterance_end_ms" not in deepgram.to_wire(spec(options={"interimResults": False}))
    assert "utterance_end_ms" not in deepgram.to_wire(spec(options={"utteranceEndMs": False}))


def test_flux_is_asked_for_eager_ends() -> None:
    assert flux.to_wire(spec(rate=8000)) == {
        "model": "flux-general-en",
        "encoding": "linear16",
        "sample_rate": 8000,
        "eager_eot_threshold": 0.4,
    }


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (
            {"options": {"eotThreshold": 0.8, "eagerEotThreshold": 0.5, "eotTimeoutMs": 4000, "mipOptOut": True}},
            {"eot_threshold": 0.8, "eager_eot_threshold": 0.5, "eot_timeout_ms": 4000, "mip_opt_out": True},
        ),
        ({"options": {"eotThreshold": 0.3}}, {"eot_threshold": 0.3, "eager_eot_threshold": 0.3}),
        ({"hints": ("Zaphod",), "options": {"keyterms": ["Ford"]}}, {"keyterm": ["Ford", "Zaphod"]}),
        ({"language": "es-ES"}, {"model": "flux-general-multi", "language_hint": ["es"]}),
        ({"languages": ("de-DE",)}, {"model": "flux-general-multi", "language_hint": ["en", "de"]}),
        ({"language": "multi"}, {"model": "flux-general-multi"}),
        (
            {"options": {"languageHints": ["fr", "en"]}},
            {"model": "flux-general-multi", "language_hint": ["fr", "en"]},
        ),
        ({"language": "es", "model": "flux-general-en"}, {}),
    ],
)
def test_flux_hears_english_or_what_it_is_hinted_at(fields: dict[str, Any], expected: dict[str, Any]) -> None:
    before = flux.to_wire(SPEC)
    wire = flux.to_wire(spec(**fields))
    assert {name: value for name, value in wire.items() if before.get(name) != value} == expected


# From the wire: nova --------------------------------------------------------------------------------------


def nova(**fields: Any) -> Nova:
    made = spec(**fields)
    return Nova(made, deepgram.to_wire(made))


def results(text: str, *flags: str, **best: Any) -> str:
    alternative = {"transcript": text, "confidence": 0.9 if text else 0.0, "words": [], **best}
    return json.dumps({"type": "Results", "channel": {"alternatives": [alternative]}, **dict.fromkeys(flags, True)})


def heard(dialect: Nova | Flux, *messages: str) -> list[SttEvent]:
    return [event for message in messages for event in dialect.heard(message)]


def test_a_long_utterance_comes_in_several_finals_and_a_partial_repeats_none_of_them() -> None:
    assert heard(
        nova(),
        results("I would"),
        results("I would like to", "is_final"),
        results("order"),
        results("order a pizza", "is_final", "speech_final"),
    ) == [
        Partial("I would"),
        Final("I would like to", 0.9),
        Partial("order"),
        Final("order a pizza", 0.9, speech_final=True),
    ]


def test_a_partial_that_has_not_changed_is_told_once() -> None:
    assert heard(nova(), results(""), results("hello"), results("hello"), results("")) == [
        Partial("hello"),
        Partial(""),
    ]


def test_silence_is_not_worth_telling() -> None:
    assert heard(nova(), results("", "is_final"), results("", "is_final", "speech_final")) == []


def test_a_pause_that_comes_behind_the_words_is_told_once() -> None:
    assert heard(
        nova(),
        results("my number is", "is_final"),
        results("", "is_final", "speech_final"),
        results("", "is_final", "speech_final"),
    ) == [Final("my number is", 0.9), Final("", speech_final=True)]


def test_a_partial_that_comes_to_nothing_is_taken_back() -> None:
    assert heard(nova(), results("uh"), results("", "is_final")) == [Partial("uh"), Final("")]


def test_an_utterance_end_stands_for_the_pause_that_noise_hides() -> None:
    end = json.dumps({"type": "UtteranceEnd", "channel": [0, 1], "last_word_end": 2.1})
    assert heard(nova(), results("hello", "is_final"), end, end) == [Final("hello", 0.9), Final("", speech_final=True)]
    assert heard(nova(), results("hello", "is_final", "speech_final"), end) == [Final("hello", 0.9, speech_final=True)]
    still_open = heard(nova(), results("hello", "is_final"), results("there"), end)
    assert still_open == [Final("hello", 0.9), Partial("there")]


def test_an_answer_to_finalize_is_told_also_when_it_is_empty_and_is_no_pause_of_the_vendors() -> None:
    dialect = nova(ends_turns=False)
    assert heard(dialect, results("hello", "is_final", "speech_final", "from_finalize")) == [Final("hello", 0.9)]
    assert heard(dialect, results("", "is_final", "from_finalize")) == [Final("")]
    assert heard(dialect, results("", "is_final", "speech_final")) == [Final("", speech_final=True)]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"ends_turns": False}, ['{"type": "Finalize"}']),
        ({"ends_turns": True}, []),
        ({"ends_turns": True, "options": {"endpointing": False}}, ['{"type": "Finalize"}']),
        ({"ends_turns": True, "options": {"endpointing": 0}}, ['{"type": "Finalize"}']),
    ],
)
def test_finals_are_forced_only_where_agentd_ends_the_turns(fields: dict[str, Any], expected: list[str]) -> None:
    assert list(nova(**fields).take(Mark.SPEECH_STOPPED)) == expected
    assert list(nova(**fields).take(Mark.SPEECH_STARTED)) == []


def test_the_language_is_told_where_several_were_asked_for() -> None:
    said = results("hola", "is_final", languages=["es", "en"])
    assert heard(nova(languages=("es",)), said) == [Final("hola", 0.9, language="es")]
    assert heard(nova(), said) == [Final("hola", 0.9)]
    assert heard(nova(language="multi"), results("hm", "is_final")) == [Final("hm", 0.9)]


@pytest.mark.parametrize(
    "message",
    [
        "",
        "[]",
        "{not json",
        b"\xff\x00",
        '{"type": "Results"}',
        '{"type": "Results", "channel": null}',
        '{"type": "Results", "channel": {"alternatives": []}, "is_final": true}',
        '{"type": "Results", "channel": {"alternatives": [null]}}',
        '{"type": "Metadata", "duration": 1.0}',
        '{"type": "SpeechStarted", "channel": [0], "timestamp": 1.0}',
        '{"type": "UtteranceEnd", "channel": [0, 1], "last_word_end": -1}',
        '{"type": "ConfigureSuccess"}',
        '{"type": "Warning", "code": "W", "description": "beware"}',
        '{"type": "SomethingNew"}',
        '{"type": "TurnInfo", "event": "SomethingNew"}',
        '{"type": "Connected", "request_id": "r", "sequence_id": 0}',
    ],
)
def test_what_means_nothing_to_us_is_skipped(message: str | bytes) -> None:
    assert list(nova().heard(message)) == []
    assert list(Flux(SPEC).heard(message)) == []


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ({"variant": "InternalError", "description": "it broke"}, "stt-server-error"),
        ({"code": "INTERNAL_SERVER_ERROR", "description": "it broke"}, "stt-server-error"),
        ({"code": "DATA-0000", "description": "no audio"}, "stt-bad-request"),
        ({"code": "RATE_LIMIT", "description": "slow down"}, "stt-rate-limited"),
        ({"code": "INVALID_MESSAGE", "description": "what?"}, "stt-bad-request"),
        ({}, "stt-server-error"),
    ],
)
def test_errors_get_our_codes(said: Mapping[str, str], code: str) -> None:
    for dialect in (nova(), Flux(SPEC)):
        with pytest.raises(ProviderError) as caught:
            dialect.heard(json.dumps({"type": "Error", **said, "message": f"with {KEY}"}))
        assert (caught.value.vendor, caught.value.code) == ("deepgram", code)


# From the wire: Flux --------------------------------------------------------------------------------------


def turn(event: str, text: str, *confidences: float, **more: Any) -> str:
    words = [{"word": "w", "confidence": confidence} for confidence in confidences]
    return json.dumps({"type": "TurnInfo", "event": event, "transcript": text, "words": words, **more})


def test_flux_tells_a_turn_from_its_first_word_to_its_end() -> None:
    assert heard(
        Flux(SPEC),
        turn("Update", ""),
        turn("StartOfTurn", "I'd"),
        turn("Update", "I'd like"),
        turn("Update", "I'd like"),
        turn("EagerEndOfTurn", "I'd like"),
        turn("TurnResumed", "I'd like a"),
        turn("Update", "I'd like a pizza"),
        turn("EagerEndOfTurn", "I'd like a pizza."),
        turn("EndOfTurn", "I'd like a pizza.", 1.0, 0.5, end_of_turn_confidence=0.71, trigger="model"),
        turn("StartOfTurn", "And"),
    ) == [
        Partial("I'd"),
        Partial("I'd like"),
        Eager("I'd like"),
        Resumed(),
        Partial("I'd like a"),
        Partial("I'd like a pizza"),
        Eager("I'd like a pizza."),
        Final("I'd like a pizza.", 0.75, end_of_turn=True),
        Partial("And"),
    ]


def test_flux_tells_its_language_and_no_confidence_without_words() -> None:
    said = turn("EndOfTurn", "Hola", languages=["es"])
    assert heard(Flux(SPEC), said) == [Final("Hola", None, end_of_turn=True, language="es")]


def test_flux_decides_by_itself_and_hears_silence_where_nothing_comes() -> None:
    dialect = Flux(spec(ends_turns=False, rate=8000))
    assert list(dialect.take(Mark.SPEECH_STOPPED)) == []
    assert list(dialect.idle()) == [bytes(16000)]


# Through the SDK ------------------------------------------------------------------------------------------


def test_the_sdk_dials_what_was_asked_for_and_shows_itself() -> None:
    async def test() -> None:
        async with DeepgramServer() as vendor:
            shared = Shared()
            feed = AudioFeed(16000)
            feed.push(bytes(640))
            feed.close()
            made = stt_spec("deepgram")(vendor.url + "/base/", hints=("a & b", "c"), options={"redact": ["pci", "ssn"]})
            async with aclosing(make_stt(made, shared).listen(feed)) as events:  # type: ignore[type-var]
                assert [event async for event in events] == []
            assert vendor.seen.paths[0].startswith("/base/v1/listen?")
            wanted = query(vendor.socket)
            assert (wanted["keyterm"], wanted["redact"]) == (["a & b", "c"], ["pci", "ssn"])
            assert (wanted["interim_results"], wanted["channels"]) == (["true"], ["1"])
            headers = vendor.seen.headers[0]
            assert headers["authorization"] == f"Token {KEY}"
            assert headers["user-agent"].startswith("deepgram-sdk/")
            assert "sec-websocket-extensions" not in headers
            assert vendor.seen.requests == [{"type": "CloseStream"}]
            await shared.aclose()

    virtual_time.run(test())


def test_a_call_whose_turns_agentd_ends_gets_its_words_when_the_caller_goes_quiet() -> None:
    async def test() -> None:
        async with DeepgramServer() as vendor:
            vendor.hears = ["yes please"]
            shared = Shared()
            feed = AudioFeed(16000)
            stt = make_stt(stt_spec("deepgram")(vendor.url, ends_turns=False), shared)
            feed.push(bytes(2 * 9600))
            feed.mark(Mark.SPEECH_STOPPED)
            feed.push(bytes(2 * 3200))
            feed.mark(Mark.SPEECH_STOPPED)
            feed.close()
            async with aclosing(stt.listen(feed)) as events:  # type: ignore[type-var]
                assert [event async for event in events] == [Partial("yes"), Final("yes please", 0.98), Final("")]
            finalize = {"type": "Finalize"}
            assert vendor.seen.requests == [finalize, finalize, {"type": "CloseStream"}]
            await shared.aclose()

    virtual_time.run(test())


def test_flux_is_reached_by_three_names() -> None:
    async def test() -> None:
        async with FluxServer() as vendor:
            shared = Shared()
            for made in (
                stt_spec("flux")(vendor.url),
                stt_spec("deepgramflux")(vendor.url),
                stt_spec("deepgram")(vendor.url, model="flux-general-en"),
            ):
                feed = AudioFeed(16000)
                feed.close()
                async with aclosing(make_stt(made, shared).listen(feed)) as events:  # type: ignore[type-var]
                    assert [event async for event in events] == []
            assert [path.partition("?")[0] for path in vendor.seen.paths] == ["/v2/listen"] * 3
            await shared.aclose()

    virtual_time.run(test())


def test_the_options_of_the_recognizer_may_bring_key_and_address() -> None:
    options = {"apiKey": KEY, "deepgramSttUri": "dg.internal:8080", "deepgramSttUseTls": False}
    assert deepgram.account(SttSpec("deepgram", options=options)) == {"apiKey": KEY, "url": "ws://dg.internal:8080"}
    assert deepgram.account(spec(options={"deepgramSttUri": "dg.internal"}))["url"] == "wss://dg.internal"
    assert deepgram.account(spec(options={"deepgramSttUri": "ws://dg"}))["url"] == "ws://dg"
    assert not {"api_key", "deepgram_stt_uri", "deepgram_stt_use_tls"} & deepgram.to_wire(spec(options=options)).keys()


@pytest.mark.parametrize("url", ["api.deepgram.com", "ftp://x", "wss://", f"https://{KEY}@x"])
def test_an_address_that_is_no_websockets_is_refused(url: str) -> None:
    with pytest.raises(ProviderError, match=r"expected credentials\.deepgram\.url to begin with ws") as caught:
        make_stt(stt_spec("deepgram")(url), Shared())
    assert caught.value.code == "stt-bad-url"


def test_a_redirect_is_not_followed() -> None:
    async def elsewhere(vendor: DeepgramServer) -> str:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(f"HTTP/1.1 307 Temporary Redirect\r\nLocation: {vendor.url}/v1/listen\r\n\r\n".encode())
            writer.close()

        async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
            shared = Shared()
            stt = make_stt(stt_spec("deepgram")(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"), shared)
            with pytest.raises(ProviderError, match="HTTP 307") as caught:
                await anext(aiter(stt.listen(AudioFeed(16000))))
            await shared.aclose()
            return caught.value.code

    async def test() -> None:
        async with DeepgramServer() as vendor:
            assert await elsewhere(vendor) == "stt-server-error"
            assert vendor.seen.paths == []

    virtual_time.run(test())


def test_clients_are_shared_by_key_and_address() -> None:
    async def test() -> None:
        shared = Shared()

        def client(**credentials: str) -> object:
            return deepgram_sdk.client(shared, "deepgram", "stt", {"apiKey": KEY, **credentials})

        assert client() is client()
        assert client(apiKey="another") is not client()
        assert client(url="wss://eu.deepgram.com") is not client()
        for n in range(2 * deepgram_sdk.MOST_CLIENTS):
            client(apiKey=f"key-{n}")
        assert len(shared.get("deepgram", deepgram_sdk.Sdk)._clients) <= deepgram_sdk.MOST_CLIENTS
        await shared.aclose()

    asyncio.run(test())


def test_what_the_close_codes_say() -> None:
    class Closing(DeepgramServer):
        async def talk(self, socket: Any) -> None:
            await self.read(socket)
            await socket.close(*self.code)

        code = (1011, "NET-0001")

    async def close(code: tuple[int, str]) -> tuple[str, bool]:
        async with Closing(Script()) as vendor:
            vendor.code = code
            shared = Shared()
            feed = AudioFeed(16000)
            feed.push(bytes(640))
            stt = make_stt(stt_spec("deepgram")(vendor.url), shared)
            with pytest.raises(ProviderError, match=code[1]) as caught:
                async with aclosing(stt.listen(feed)) as events:  # type: ignore[type-var]
                    async for _ in events:
                        pass
            await shared.aclose()
            return caught.value.code, caught.value.retryable

    assert virtual_time.run(close((1011, "NET-0001"))) == ("stt-server-error", True)
    assert virtual_time.run(close((1008, "DATA-0000"))) == ("stt-bad-request", False)
