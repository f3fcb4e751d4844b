"""One hook over HTTP: what is sent, what an answer means, and when it is sent again."""

import asyncio
import base64
import hashlib
import hmac
import logging
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest
from jambonz_sdk.webhook import verify_signature_middleware

from agentd import __version__
from agentd.outbound import answers
from agentd.outbound.channel import HookFailed
from agentd.outbound.guard import Answer
from agentd.outbound.webhook import LIMIT, Webhook, where
from config.payloads import completion, tool_call, user_transcript
from tests import virtual_time
from tests.vendors import canary
from tests.webhooks import (
    CALL,
    CANARIES,
    PASSWORD,
    QUERY,
    SECRET,
    USER,
    Application,
    Reply,
    guarding,
    overheard,
    says,
)

ASKED = tool_call("t-1", "weather", {"city": "Köln"})
HEARD = user_transcript("hello")
DONE = completion("normal conversation end")
HTML = Reply(body=b"<!DOCTYPE html><p>It broke.</p>", content_type="text/html; charset=utf-8")


def run(
    application: Application,
    use: Callable[[Webhook], Awaitable[Any]],
    path: str = "/hook",
    **options: Any,
) -> tuple[Any, float]:
    """What came of using a webhook of this application, or the words of its failure; and the seconds it took."""

    async def main() -> tuple[Any, float]:
        async with application, guarding(application) as guard:
            began = asyncio.get_running_loop().time()
            try:
                came: Any = await use(Webhook(guard, application.url + path, **options))
            except HookFailed as exc:
                came = f"failed: {exc}"
            return came, asyncio.get_running_loop().time() - began

    return virtual_time.run(main())


def tool(webhook: Webhook) -> Awaitable[Any]:
    return webhook.tool_call(ASKED)


def event(webhook: Webhook) -> Awaitable[Any]:
    return webhook.event(HEARD)


def action(webhook: Webhook) -> Awaitable[Any]:
    return webhook.action(DONE)


ALL = pytest.mark.parametrize("use", [tool, event, action])


# What is sent --------------------------------------------------------------------------------------------


def test_a_request_says_what_is_told_and_of_which_call() -> None:
    application = Application()
    run(application, event, "/hook?team=1", info=CALL)
    (request,) = application.requests
    assert (request.method, request.path) == ("POST", "/hook?team=1")
    assert request.json() == {**CALL, **HEARD}
    assert request.headers["content-type"] == "application/json"
    assert request.headers["user-agent"] == f"agentd/{__version__}"
    assert not {"authorization", "jambonz-signature"} & set(request.headers)


def test_what_is_told_wins_over_what_is_known_of_the_call() -> None:
    application = Application(says("fine"))
    run(application, tool, info={"name": "a caller", "call_sid": "c-1"})
    assert application.bodies == [{"call_sid": "c-1", **ASKED}]


def test_what_is_known_of_the_call_is_read_each_time() -> None:
    info = {"call_status": "in-progress"}

    async def both(webhook: Webhook) -> None:
        await webhook.event(HEARD)
        info["call_status"] = "completed"
        await webhook.action(DONE)

    application = Application()
    run(application, both, info=info)
    assert [body["call_status"] for body in application.bodies] == ["in-progress", "completed"]


def test_who_asks_is_told_by_basic_auth() -> None:
    application = Application()
    run(application, event, username="jürgen", password="p:w")
    scheme, _, named = application.requests[0].headers["authorization"].partition(" ")
    assert (scheme, base64.b64decode(named).decode()) == ("Basic", "jürgen:p:w")


@ALL
def test_the_sdk_believes_the_signature(use: Callable[[Webhook], Awaitable[Any]]) -> None:
    application = Application()
    run(application, use, secret="s3cret", info=CALL)
    (request,) = application.requests
    assert verify_signature_middleware(request.body, request.headers["jambonz-signature"], "s3cret")
    with pytest.raises(ValueError, match="verification failed"):
        verify_signature_middleware(request.body + b" ", request.headers["jambonz-signature"], "s3cret")


def test_the_time_of_a_signature_is_the_time_of_day() -> None:
    application = Application()
    run(application, event, secret="s3cret", time_of_day=lambda: 1_700_000_000.5)
    (request,) = application.requests
    digest = hmac.new(b"s3cret", b"1700000000." + request.body, hashlib.sha256).hexdigest()
    assert request.headers["jambonz-signature"] == f"t=1700000000,v1={digest}"


def test_a_get_has_the_values_in_its_query_and_no_body() -> None:
    application = Application()

    def tell(webhook: Webhook) -> Awaitable[Any]:
        return webhook.event(
            {"type": "x", "transcript": "a&b ü", "flag": True, "n": 1.5, "latency": {"a": 1}, "no": None}
        )

    run(application, tell, "/hook?team=1&x=%2F", method="GET", secret="s3cret", info=CALL)
    (request,) = application.requests
    assert (request.method, request.body) == ("GET", b"")
    known = {name: [str(value)] for name, value in CALL.items() if name != "customerData"}
    said = {"type": ["x"], "transcript": ["a&b ü"], "flag": ["true"], "n": ["1.5"], "team": ["1"], "x": ["/"]}
    assert parse_qs(urlsplit(request.path).query) == {**known, **said}
    assert "content-type" not in request.headers
    assert verify_signature_middleware(b"", request.headers["jambonz-signature"], "s3cret")


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_an_address_in_the_operators_own_files_needs_no_other_leave(method: Any) -> None:
    async def main() -> None:
        async with Application() as application, guarding() as guard:
            url = application.url + "/hook?team=1"
            await Webhook(guard.trusting([url]), url, method=method).event(HEARD)
            assert len(application.requests) == 1

    virtual_time.run(main())


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://user:pass@example.com/hook?key=1#x", "https://example.com/hook"),
        ("http://[::1]:8080/hook", "http://[::1]:8080/hook"),
        ("https://example.com", "https://example.com"),
        ("https://[bad/hook?key=1", "a URL that is none"),
        ("https://example.com:port/?key=1", "a URL that is none"),
    ],
)
def test_logs_have_the_address_without_user_password_and_query(url: str, shown: str) -> None:
    assert where(url) == shown


# What an answer means ------------------------------------------------------------------------------------


def answer(body: bytes | str, kind: str = "application/json", status: int = 200) -> Answer:
    content = body.encode() if isinstance(body, str) else body
    return Answer(status, httpx2.Headers({"content-type": kind} if kind else {}), content)


@pytest.mark.parametrize(
    ("given", "result"),
    [
        (answer('{"temperature": 7}'), {"temperature": 7}),
        (answer('{"result": 7}'), {"result": 7}),
        (answer("[1, null]", "application/json; charset=utf-8"), [1, None]),
        (answer('"sunny"', "application/problem+json"), "sunny"),
        (answer("null"), None),
        (answer("false"), False),
        (answer("sunny, 7 °C", "text/plain"), "sunny, 7 °C"),
        (answer("7 °C".encode("latin-1"), "text/plain; charset=iso-8859-1"), "7 °C"),
        (answer(b"7 \xff", "text/plain"), "7 �"),
        (answer("7 °C", "text/plain; charset=nonsense"), "7 °C"),
        (answer("7 °C", "text/plain; charset=base64"), "7 °C"),
        (answer("<sunny>", "text/plain"), "<sunny>"),
        (answer("12", "text/plain"), "12"),
        (answer('{"temperature": 7}', "text/html"), {"temperature": 7}),
        (answer("sunny", "text/html"), "sunny"),
        (answer("sunny", ""), "sunny"),
        (answer("sunny", "no type, but words for a model"), "sunny"),
        (answer('{"temperature": 7}', "application/octet-stream"), {"temperature": 7}),
        (answer(""), "ok"),
        (answer(" \r\n", "text/html"), "ok"),
        (answer("", status=204), "ok"),
        (answer("", status=202), "ok"),
    ],
)
def test_a_tool_returns_json_or_text(given: Answer, result: Any) -> None:
    assert answers.result(given) == result


@pytest.mark.parametrize(
    ("given", "got"),
    [
        (answer("<!DOCTYPE html><p>no", "text/html"), "HTML"),
        (answer("\n <html>", ""), "HTML"),
        (answer('{"temperature": '), "JSON that cannot be read"),
        (answer("sunny"), "JSON that cannot be read"),
        (answer("[" * 100_000), "JSON that cannot be read"),
        (answer(b"\x89PNG", "image/png"), "image/png"),
        (answer(b"\x89PNG", "application/octet-stream"), "application/octet-stream"),
    ],
)
def test_a_tool_returns_nothing_else(given: Answer, got: str) -> None:
    with pytest.raises(HookFailed, match=f"^expected JSON or text from the application, got {got}$"):
        answers.result(given)


@pytest.mark.parametrize(
    ("given", "verbs"),
    [
        (
            answer('[{"verb": "say", "text": "bye"}, {"hangup": {}}]'),
            [{"verb": "say", "text": "bye"}, {"verb": "hangup"}],
        ),
        (answer('{"verb": "hangup"}'), [{"verb": "hangup"}]),
        (answer('[{"verb": "hangup"}]', "text/html"), [{"verb": "hangup"}]),
        (answer("[]"), []),
        (answer('{"status": "ok"}'), []),
        (answer("null"), []),
        (answer('"ok"'), []),
        (answer("OK", "text/plain; charset=utf-8"), []),
        (answer(""), []),
        (answer("", status=204), []),
    ],
)
def test_the_action_hook_returns_verbs(given: Answer, verbs: Any) -> None:
    assert answers.verbs(given) == verbs


@pytest.mark.parametrize(
    ("body", "got"),
    [
        (HTML, "expected an array of verbs from the application, got HTML"),
        (Reply(body=b"[{"), "expected an array of verbs from the application, got JSON that cannot be read"),
        (Reply(body=b"?", content_type=""), "expected an array of verbs from the application, got something else"),
        (says(["hangup"]), "expected an array of verbs from the application, got an array of something else"),
    ],
)
def test_verbs_that_cannot_be_read_are_none_and_are_reported(
    body: Reply, got: str, caplog: pytest.LogCaptureFixture
) -> None:
    application = Application(body)
    assert run(application, action)[0] == []
    assert len(application.requests) == 1
    (record,) = [record for record in caplog.records if record.name == "agentd.outbound.webhook"]
    assert (record.levelname, record.message) == ("WARNING", "actionHook's answer ignored")
    assert vars(record)["error"] == got
    assert vars(record)["where"] == application.url + "/hook"


# What goes wrong -----------------------------------------------------------------------------------------

STATUS = "failed: expected status 200, 202 or 204 from the application, got "
BROKE = "failed: the connection to the application broke before its answer was there"
FAULTS: dict[str, tuple[Reply, str]] = {
    "400": (Reply(400), STATUS + "400"),
    "401": (Reply(401), STATUS + "401"),
    "500": (
        Reply(500, b'[{"verb":"hangup"}]'),
        STATUS + "500",
    ),
    "503": (Reply(503), STATUS + "503"),
    "nothing, it closes": (Reply(closes=True), BROKE),
    "half an answer": (Reply(body=b"[", headers={"content-length": "2"}), "slow"),
    "no HTTP": (Reply(headers={"content-length": "one"}), BROKE),
    "10 MB": (Reply(body=b"x" * 10_000_000), f"failed: expected at most {LIMIT} bytes from the application, got more"),
    "late": (Reply(after=30), "slow"),
    "a slow drip": (Reply(body=b"x" * 600, gap=1), "slow"),
}


@ALL
@pytest.mark.parametrize("name", FAULTS)
def test_whatever_goes_wrong_is_said_and_never_asked_again(name: str, use: Callable[[Webhook], Awaitable[Any]]) -> None:
    reply, words = FAULTS[name]
    application = Application(reply, says([]))
    seconds = 20.0 if use is tool else 10.0
    came, took = run(application, use)
    if words == "slow":
        assert (came, took) == (f"failed: the application did not answer within {seconds:g} seconds", seconds)
    else:
        assert (came, took) == (words, 0.0)
    assert len(application.requests) == 1


@ALL
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_an_error_and_nobody_goes_there(use: Callable[[Webhook], Awaitable[Any]], status: int) -> None:
    async def main() -> None:
        async with Application() as other:
            redirect = Reply(status, headers={"location": other.url + "/hook"})
            async with Application(redirect) as application, guarding(application, other) as guard:
                with pytest.raises(HookFailed, match=rf"got {status}$"):
                    await use(Webhook(guard, application.url))
                assert (len(application.requests), other.seen.connections) == (1, 0)

    virtual_time.run(main())


@ALL
def test_nothing_is_good(use: Callable[[Webhook], Awaitable[Any]]) -> None:
    came, _ = run(Application(Reply(204)), use)
    nothing: dict[Any, Any] = {tool: "ok", event: None, action: []}
    assert came == nothing[use]


def test_a_tool_may_take_as_long_as_the_toolbox_lets_it() -> None:
    assert run(Application(says("late", after=30)), tool, tool_seconds=31.0) == ("late", 30.0)


@ALL
def test_an_application_that_is_not_up_is_asked_once_more(use: Callable[[Webhook], Awaitable[Any]]) -> None:
    async def main() -> None:
        async with Application(says([]), listens=False) as application, guarding(application) as guard:
            loop = asyncio.get_running_loop()
            loop.call_later(0.25, lambda: loop.create_task(application.open()))
            assert await use(Webhook(guard, application.url)) == (None if use is event else [])
            assert application.times == [0.5]

    virtual_time.run(main())


@ALL
def test_an_application_that_stays_down_is_asked_no_third_time(use: Callable[[Webhook], Awaitable[Any]]) -> None:
    application = Application(listens=False)
    assert run(application, use) == ("failed: the application could not be reached", 0.5)

    async def main() -> None:
        async with Application(listens=False) as application, guarding(application) as guard:
            with pytest.raises(HookFailed) as failed:
                await use(Webhook(guard, application.url))
            assert failed.value.may_retry

    virtual_time.run(main())


@ALL
def test_a_place_that_is_not_allowed_is_not_asked(use: Callable[[Webhook], Awaitable[Any]]) -> None:
    async def main() -> None:
        async with Application() as application, guarding() as guard:
            with pytest.raises(HookFailed, match="address of the application is not allowed") as failed:
                await use(Webhook(guard, application.url))
            assert (failed.value.may_retry, application.seen.connections) == (False, 0)

    virtual_time.run(main())


def test_cancelling_lets_go_of_the_application_at_once() -> None:
    async def main() -> None:
        async with Application(Reply(after=30)) as application, guarding(application) as guard:
            task = asyncio.create_task(Webhook(guard, application.url).tool_call(ASKED))
            await application.seen.asked.wait()
            task.cancel()
            await asyncio.wait([task])
            assert (task.cancelled(), asyncio.get_running_loop().time()) == (True, 0.0)

    virtual_time.run(main())


# What nobody is told -------------------------------------------------------------------------------------

QUOTING = " ".join(CANARIES)
CANARY_FAULTS = {
    **{name: reply for name, (reply, _) in FAULTS.items()},
    "400": Reply(400, QUOTING.encode(), headers={"x-quote": QUOTING}),
    "redirect": Reply(302, headers={"location": f"/?{QUERY}"}),
    "JSON that cannot be read": Reply(body=QUOTING.encode()),
    "another type": Reply(body=b"<", content_type=f"text/html; {QUOTING}"),
    "well": says([]),
    "refused": Reply(),
}


@ALL
@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("name", CANARY_FAULTS)
def test_no_secret_is_in_a_log_or_an_error(
    name: str, method: Any, use: Callable[[Webhook], Awaitable[Any]], caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> list[str]:
        application = Application(CANARY_FAULTS[name], listens=name != "refused")
        async with application, guarding(application) as guard:
            url = f"{application.url}/hook?key={QUERY}"
            webhook = Webhook(guard, url, method=method, username=USER, password=PASSWORD, secret=SECRET)
            try:
                await use(webhook)
            except HookFailed as exc:
                logging.getLogger("agentd.test").warning("hook failed", extra={"where": webhook.where}, exc_info=True)
                return [canary.told_by(exc), repr(webhook)]
            return [repr(webhook)]

    with caplog.at_level(logging.DEBUG):
        told = virtual_time.run(main())
    assert overheard(caplog.records, *told) == []
