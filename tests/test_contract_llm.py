"""What every language model keeps to, whatever its vendor: one row each in ``tests.vendors.rows.LLM``.

A row's server says ``answer`` so that every delta of text is one piece, the first with all that the vendor says before
it, and the end (why it stopped, usage) comes after the last. It also reads what it was asked:

- ``conversation(body)``: tuples ``("system" | "user" | "assistant", text)``, ``("call", id, name, arguments)`` and
  ``("result", call id, text)``, in order, system first;
- ``tools(body)``: ``(name, description, schema)`` each;
- ``options(body)``: ``maxTokens``, ``temperature``, ``reasoningEffort``, and ``vendorParams``: what it found
  of its ``vendor_params``;
- ``natives(body)``: what came back of its ``native``, the vendor's own content beside a call, as it was sent. A server
  whose ``native`` is ``None`` has no such thing.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Coroutine
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import pytest

from providers.base import (
    Llm,
    LlmEvent,
    Message,
    Native,
    Prompt,
    ProviderError,
    TextDelta,
    Tool,
    ToolCall,
    Usage,
    Working,
)
from providers.registry import Shared, make_llm
from tests import virtual_time
from tests.vendors.canary import canary as canary
from tests.vendors.http import HttpVendor
from tests.vendors.rows import KEY, LLM, Answer, LlmRow
from tests.vendors.script import Fault, Script

HELLO = Prompt((Message("user", "hello"),))
ANSWER = [TextDelta("Hello"), TextDelta(" there,"), TextDelta(" café.")]
WEATHER = Tool(
    "get_weather", "The weather.", {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
)
HANGUP = Tool("hangup", "End the call.", {"type": "object", "properties": {}})
OSLO = ToolCall("call_1", "get_weather", '{"city": "Oslo"}')
PARIS = ToolCall("call_2", "get_weather", '{"city": "Paris \\"é\\"", "days": [1, 2.5, null]}')

each_vendor = pytest.mark.parametrize("row", LLM, ids=[row.vendor for row in LLM])


@dataclass
class There:
    """A vendor and the model that was made for it."""

    vendor: Any
    shared: Shared
    llm: Llm


def run(row: LlmRow, test: Coroutine[Any, Any, None]) -> None:
    async def guarded() -> None:
        async with asyncio.timeout(10):
            await test

    if row.threads:
        asyncio.run(guarded())
    else:
        virtual_time.run(test)


@asynccontextmanager
async def talking(
    row: LlmRow,
    script: Script | None = None,
    answer: Answer | None = None,
    connect: dict[str, Any] | None = None,
    **options: Any,
) -> AsyncIterator[There]:
    shared = Shared()
    try:
        async with row.server(script) as vendor:
            vendor.answer = answer or Answer()
            spec = row.spec(vendor.url, **options)
            llm = make_llm(replace(spec, connect={**spec.connect, **(connect or {})}), shared)
            yield There(vendor, shared, llm)
            if hasattr(llm, "aclose"):
                await llm.aclose()
    finally:
        await shared.aclose()


async def collect(llm: Llm, prompt: Prompt = HELLO) -> list[LlmEvent]:
    return [event async for event in llm.reply(prompt) if not isinstance(event, Working)]


async def failure(llm: Llm, heard: list[LlmEvent] | None = None) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        async for event in llm.reply(HELLO):
            if heard is not None and not isinstance(event, Working):
                heard.append(event)
    return caught.value


# Answers ------------------------------------------------------------------------------------------------------


@each_vendor
def test_words_come_in_the_order_they_are_streamed_in(row: LlmRow) -> None:
    async def test() -> None:
        async with talking(row) as there:
            assert await collect(there.llm) == ANSWER

    run(row, test())


@each_vendor
def test_a_burst_in_one_write_is_the_same_answer(row: LlmRow) -> None:
    async def test() -> None:
        text = tuple(f"{number} " for number in range(500))
        async with talking(row, Script(burst=True), Answer(text)) as there:
            assert await collect(there.llm) == [TextDelta(each) for each in text]

    run(row, test())


@each_vendor
def test_no_delta_is_held_back(row: LlmRow) -> None:
    async def test() -> None:
        async with (
            talking(row, Script(Fault.HANG, after=2)) as there,
            aclosing(there.llm.reply(HELLO)) as events,  # type: ignore[type-var]
        ):
            assert [await anext(events), await anext(events)] == ANSWER[:2]

    run(row, test())


@each_vendor
def test_deltas_come_when_they_are_streamed(row: LlmRow) -> None:
    if row.threads:
        pytest.skip("time is real here")

    async def test() -> None:
        async with talking(row, Script(first=0.5, gap=2.0)) as there:
            clock, came = asyncio.get_running_loop().time, list[float]()
            async for event in there.llm.reply(HELLO):
                if not isinstance(event, Usage):  # which is behind the end
                    came.append(clock())
            assert came == [0.5, 2.5, 4.5]

    run(row, test())


@each_vendor
def test_tool_calls_come_whole_and_several_at_once(row: LlmRow) -> None:
    async def test() -> None:
        async with talking(row, answer=Answer(("Let me see.",), (OSLO, PARIS))) as there:
            text, *calls = await collect(there.llm, Prompt(HELLO.messages, (WEATHER,)))
            assert text == TextDelta("Let me see.")
            assert [plain(call) for call in calls] == [plain(OSLO), plain(PARIS)]

    run(row, test())


@each_vendor
def test_arguments_on_their_way_are_a_sign_of_life(row: LlmRow) -> None:
    if row.vendor == "google":
        pytest.skip("its calls come whole, in one chunk")

    async def test() -> None:
        async with talking(row, answer=Answer((), (OSLO,))) as there:
            events = [event async for event in there.llm.reply(HELLO)]
            assert Working() in events and isinstance(events[-2], ToolCall)

    run(row, test())


@each_vendor
def test_a_call_without_arguments_has_an_empty_object_of_them(row: LlmRow) -> None:
    async def test() -> None:
        async with talking(row, answer=Answer((), (ToolCall("call_1", "hangup", "{}"),))) as there:
            (call,) = await collect(there.llm, Prompt(HELLO.messages, (HANGUP,)))
            assert plain(call) == ("call_1", "hangup", {})

    run(row, test())


def plain(call: LlmEvent) -> tuple[str, str, Any]:
    assert isinstance(call, ToolCall)
    return call.id, call.name, json.loads(call.arguments)


@each_vendor
def test_an_answer_of_no_words_yields_nothing(row: LlmRow) -> None:
    async def test() -> None:
        async with talking(row, answer=Answer(())) as there:
            assert await collect(there.llm) == []

    run(row, test())


@each_vendor
def test_two_replies_at_once_do_not_mix(row: LlmRow) -> None:
    async def test() -> None:
        async with talking(row, Script(gap=0.01)) as there:
            both = await asyncio.gather(collect(there.llm), collect(there.llm))
            assert list(both) == [ANSWER, ANSWER]

    run(row, test())


# What is asked ------------------------------------------------------------------------------------------------


@each_vendor
def test_the_whole_conversation_arrives_in_the_vendors_form(row: LlmRow) -> None:
    prompt = Prompt(
        (
            Message("system", "Be brief."),
            Message("user", "Hi, I'm Zoë."),
            Message("assistant", "Hello Zoë!"),
            Message("user", "Oslo and Paris?"),
            Message("assistant", "Let me see.", (OSLO, PARIS)),
            Message("tool", "rain", tool_call_id="call_1"),
            Message("tool", '{"sky": "clear"}', tool_call_id="call_2"),
            Message("assistant", "Rain in Oslo, clear in Paris."),
            Message("user", "Thanks."),
        ),
        (WEATHER, HANGUP),
    )

    async def test() -> None:
        async with talking(row) as there:
            await collect(there.llm, prompt)
            (body,) = there.vendor.seen.requests
            assert there.vendor.conversation(body) == [
                ("system", "Be brief."),
                ("user", "Hi, I'm Zoë."),
                ("assistant", "Hello Zoë!"),
                ("user", "Oslo and Paris?"),
                ("assistant", "Let me see."),
                ("call", *plain(OSLO)),
                ("call", *plain(PARIS)),
                ("result", "call_1", "rain"),
                ("result", "call_2", '{"sky": "clear"}'),
                ("assistant", "Rain in Oslo, clear in Paris."),
                ("user", "Thanks."),
            ]
            assert there.vendor.tools(body) == [
                ("get_weather", "The weather.", WEATHER.parameters),
                ("hangup", "End the call.", HANGUP.parameters),
            ]

    run(row, test())


@each_vendor
def test_options_reach_the_wire_under_the_vendors_names(row: LlmRow) -> None:
    async def test() -> None:
        async with talking(row, maxTokens=99, temperature=0.5) as there:
            await collect(there.llm)
            options = there.vendor.options(there.vendor.seen.requests[0])
            assert (options["maxTokens"], options["temperature"]) == (99, 0.5)
            assert options["reasoningEffort"] is None

    run(row, test())


@each_vendor
def test_the_reasoning_effort_reaches_the_wire(row: LlmRow) -> None:
    async def test() -> None:
        async with talking(row, reasoningEffort="low") as there:
            await collect(there.llm)
            assert there.vendor.options(there.vendor.seen.requests[0])["reasoningEffort"] == "low"

    run(row, test())


@each_vendor
def test_vendor_params_reach_the_wire_unchanged(row: LlmRow) -> None:
    async def test() -> None:
        async with talking(row, vendorParams=dict(row.server().vendor_params)) as there:
            await collect(there.llm)
            options = there.vendor.options(there.vendor.seen.requests[0])
            assert options["vendorParams"] == there.vendor.vendor_params != {}

    run(row, test())


@each_vendor
def test_what_the_vendor_wants_back_with_a_call_comes_back_as_it_was(row: LlmRow) -> None:
    async def test() -> None:
        native = row.server().native
        if native is None:
            pytest.skip("this vendor has no such content")
        call = replace(OSLO, native=Native("any", native))
        async with talking(row, answer=Answer((), (call, PARIS))) as there:
            called = [each for each in await collect(there.llm) if isinstance(each, ToolCall)]
            assert [plain(each) for each in called] == [plain(OSLO), plain(PARIS)]
            results = (Message("tool", "rain", tool_call_id="call_1"), Message("tool", "sun", tool_call_id="call_2"))
            asked = (*HELLO.messages, Message("assistant", "", tuple(called)), *results)
            await collect(there.llm, Prompt(asked, (WEATHER,)))
            first, second = there.vendor.seen.requests
            assert there.vendor.natives(first) == []
            assert there.vendor.natives(second) == [native]

    run(row, test())


@each_vendor
def test_what_another_protocol_wants_back_is_not_sent(row: LlmRow) -> None:
    foreign = Native("of another vendor", {"signature": "c2lnbmVk-foreign"})

    async def test() -> None:
        async with talking(row) as there:
            call = Message("assistant", "Let me see.", (replace(OSLO, native=foreign),), native=foreign)
            asked = (*HELLO.messages, call, Message("tool", "rain", tool_call_id="call_1"))
            await collect(there.llm, Prompt(asked, (WEATHER,)))
            (body,) = there.vendor.seen.requests
            assert "foreign" not in repr(body)
            assert there.vendor.conversation(body)[1:3] == [("assistant", "Let me see."), ("call", *plain(OSLO))]

    run(row, test())


# What goes wrong ----------------------------------------------------------------------------------------------


@each_vendor
@pytest.mark.parametrize(
    ("fault", "code", "retryable", "wait"),
    [
        (Fault.REFUSE, "llm-connection-lost", True, None),
        (Fault.UNAUTHORIZED, "llm-unauthorized", False, None),
        (Fault.RATE_LIMITED, "llm-rate-limited", True, 1.0),
        (Fault.SERVER_ERROR, "llm-server-error", True, None),
    ],
    ids=["refused", "unauthorized", "rate limited", "server error"],
)
def test_a_refusal_is_told_at_once_and_in_our_words(
    row: LlmRow, fault: Fault, code: str, retryable: bool, wait: float | None
) -> None:
    async def test() -> None:
        async with talking(row, Script(fault)) as there:
            failed = await failure(there.llm)
            assert (failed.vendor, failed.code) == (row.vendor, code)
            assert (failed.retryable, failed.retry_after) == (retryable, wait)
            # Nobody but the call decides whether to ask again: SDKs would sleep while a caller waits.
            assert len(there.vendor.seen.requests) == (0 if fault is Fault.REFUSE else 1)
            if not row.threads:
                assert asyncio.get_running_loop().time() == 0.0

    run(row, test())


@each_vendor
@pytest.mark.parametrize("after", [0, 1, 2, 3])
def test_a_cut_is_a_lost_connection_and_what_came_before_was_heard(row: LlmRow, after: int) -> None:
    async def test() -> None:
        heard: list[LlmEvent] = []
        async with talking(row, Script(Fault.CUT, after=after)) as there:
            failed = await failure(there.llm, heard)
            assert (failed.code, failed.retryable) == ("llm-connection-lost", True)
            assert heard == ANSWER[:after]

    run(row, test())


@each_vendor
def test_a_cut_within_a_call_leaves_no_half_call(row: LlmRow) -> None:
    async def test() -> None:
        heard: list[LlmEvent] = []
        async with talking(row, Script(Fault.CUT, after=1), Answer((), (OSLO, PARIS))) as there:
            assert (await failure(there.llm, heard)).code == "llm-connection-lost"
            assert [plain(each) for each in heard] in ([], [plain(OSLO)])

    run(row, test())


@each_vendor
@pytest.mark.parametrize("after", [0, 1])
def test_an_error_inside_the_stream_is_told_in_our_words(row: LlmRow, after: int) -> None:
    async def test() -> None:
        heard: list[LlmEvent] = []
        async with talking(row, Script(Fault.ERROR, after=after)) as there:
            failed = await failure(there.llm, heard)
            assert (failed.code, failed.retryable) == ("llm-server-error", True)
            assert "it broke" in failed.message
            assert heard == ANSWER[:after]

    run(row, test())


@each_vendor
@pytest.mark.parametrize("after", [0, 1])
def test_garbage_is_skipped_or_an_error_but_never_words(row: LlmRow, after: int) -> None:
    async def test() -> None:
        heard: list[LlmEvent] = []
        async with talking(row, Script(Fault.GARBAGE, after=after)) as there:
            try:
                async for event in there.llm.reply(HELLO):
                    heard += [] if isinstance(event, Working) else [event]
            except ProviderError as failed:
                assert failed.code in ("llm-bad-stream", "llm-connection-lost")
                assert heard == ANSWER[:after]
            else:
                assert heard == ANSWER

    run(row, test())


@each_vendor
@pytest.mark.parametrize("fault", [Fault.HALF_CHARACTER, Fault.ODD_BYTES], ids=["within a character", "odd bytes"])
def test_writes_that_end_anywhere_are_put_together(row: LlmRow, fault: Fault) -> None:
    async def test() -> None:
        async with talking(row, Script(fault, gap=0.001)) as there:
            assert await collect(there.llm) == ANSWER

    run(row, test())


@each_vendor
def test_a_vendor_that_is_well_again_answers_the_next_reply(row: LlmRow) -> None:
    async def test() -> None:
        async with talking(row, Script(Fault.CUT, after=1, times=1)) as there:
            assert (await failure(there.llm)).code == "llm-connection-lost"
            assert await collect(there.llm) == ANSWER

    run(row, test())


@each_vendor
@pytest.mark.parametrize("after", [0, 1])
def test_a_vendor_that_falls_silent_is_a_timeout_after_the_configured_time(row: LlmRow, after: int) -> None:
    async def test() -> None:
        heard: list[LlmEvent] = []
        async with talking(row, Script(Fault.HANG, after=after), connect={"timeout": 0.25}) as there:
            failed = await failure(there.llm, heard)
            assert (failed.code, failed.retryable) == ("llm-timeout", True)
            assert heard == ANSWER[:after]
            await there.vendor.seen.left.wait()
            if not row.threads:
                assert asyncio.get_running_loop().time() == 0.25

    run(row, test())


# Leaving ------------------------------------------------------------------------------------------------------


@each_vendor
@pytest.mark.parametrize("after", [0, 1], ids=["before the first word", "midway"])
def test_cancelling_a_reply_is_seen_by_the_vendor_at_once(row: LlmRow, after: int) -> None:
    async def test() -> None:
        async with talking(row, Script(Fault.HANG, after=after)) as there:
            heard = asyncio.Event()

            async def listen() -> None:
                async for _ in there.llm.reply(HELLO):
                    heard.set()

            task = asyncio.create_task(listen())
            await (heard if after else there.vendor.seen.asked).wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await there.vendor.seen.left.wait()
            if not row.threads:
                assert asyncio.get_running_loop().time() == 0.0

    run(row, test())


@each_vendor
def test_cancelling_while_a_word_is_being_dealt_with_is_seen_by_the_vendor(row: LlmRow) -> None:
    async def test() -> None:
        async with talking(row, Script(Fault.HANG, after=1)) as there:
            heard = asyncio.Event()

            async def listen() -> None:
                async with aclosing(there.llm.reply(HELLO)) as events:  # type: ignore[type-var]
                    async for _ in events:
                        heard.set()
                        await asyncio.Event().wait()

            task = asyncio.create_task(listen())
            await heard.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await there.vendor.seen.left.wait()

    run(row, test())


@each_vendor
def test_closing_the_iterator_after_the_first_word_frees_the_vendor(row: LlmRow) -> None:
    async def test() -> None:
        async with talking(row, Script(Fault.HANG, after=1)) as there:
            async with aclosing(there.llm.reply(HELLO)) as events:  # type: ignore[type-var]
                async for event in events:
                    assert event == ANSWER[0]
                    break
            await there.vendor.seen.left.wait()

    run(row, test())


@each_vendor
def test_a_cancelled_reply_does_not_disturb_the_next(row: LlmRow) -> None:
    async def test() -> None:
        async with talking(row, Script(Fault.HANG, after=1, times=1)) as there:
            async with aclosing(there.llm.reply(HELLO)) as events:  # type: ignore[type-var]
                await anext(events)
            assert await collect(there.llm) == ANSWER

    run(row, test())


# Connections --------------------------------------------------------------------------------------------------


@each_vendor
def test_the_next_reply_uses_the_same_connection(row: LlmRow) -> None:
    async def test() -> None:
        async with talking(row) as there:
            for _ in range(3):
                assert await collect(there.llm) == ANSWER
            assert there.vendor.seen.connections == 1

    run(row, test())


@each_vendor
def test_another_call_uses_the_same_connection(row: LlmRow) -> None:
    async def test() -> None:
        async with talking(row) as there:
            other = make_llm(row.spec(there.vendor.url), there.shared)
            assert [await collect(there.llm), await collect(other)] == [ANSWER, ANSWER]
            assert there.vendor.seen.connections == 1

    run(row, test())


@each_vendor
def test_a_connection_dialled_ahead_serves_the_reply(row: LlmRow) -> None:
    async def test() -> None:
        async with talking(row) as there:
            assert hasattr(there.llm, "ready")
            there.llm.ready()
            await dialled(row, there.vendor)
            there.llm.ready()  # there is one already
            assert await collect(there.llm) == ANSWER
            assert there.vendor.seen.connections == 1

    run(row, test())


async def dialled(row: LlmRow, vendor: HttpVendor) -> None:
    """The connection is there."""
    if not row.threads:
        await asyncio.sleep(1)  # the clock moves when there is nothing else left to do
    while row.threads and not vendor.seen.connections:  # noqa: ASYNC110  # there is no event for it
        await asyncio.sleep(0)


@each_vendor
def test_dialling_ahead_where_nobody_listens_harms_nobody(row: LlmRow) -> None:
    async def test() -> None:
        async with talking(row, Script(Fault.REFUSE)) as there:
            assert hasattr(there.llm, "ready")
            there.llm.ready()
            assert (await failure(there.llm)).code == "llm-connection-lost"

    run(row, test())


@each_vendor
def test_warming_up_asks_nobody(row: LlmRow) -> None:
    async def test() -> None:
        async with talking(row) as there:
            if hasattr(there.llm, "warm"):
                await there.llm.warm()
            await there.shared.warm()
            assert there.vendor.seen.connections == 0
            assert await collect(there.llm) == ANSWER

    run(row, test())


# What is missing ----------------------------------------------------------------------------------------------


@each_vendor
def test_a_key_that_no_header_can_carry_is_refused_without_being_quoted(row: LlmRow) -> None:
    async def test() -> None:
        shared = Shared()
        spec = row.spec("http://127.0.0.1:9")
        keys = {name: f"{KEY}\n" + "é" if value == KEY else value for name, value in spec.credentials.items()}
        with pytest.raises(ProviderError) as caught:
            make_llm(replace(spec, credentials=keys), shared)
        await shared.aclose()
        assert caught.value.code == "llm-bad-credentials"

    run(row, test())
