"""The pre-built tools that ask the web: what they ask, what they tell, and that every failure is a result."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from agentd import load
from agentd.call import setup
from agentd.call.outside import Outside
from agentd.errors import AgentdError
from agentd.prebuilt import NAMES, Means, prebuilt
from agentd.prebuilt.base import SECONDS, cut
from agentd.prebuilt.weather import CONDITIONS
from config.server import Server
from providers.registry import Shared
from tests import virtual_time
from tests.vendors.http import Request
from tests.vendors.web import CURRENT, PLACES, Web
from tests.whole_call import agent

KEY = "tvly-key"


def execute(name: str, arguments: Mapping[str, Any], web: Web | None = None, key: str = KEY) -> Any:
    async def main() -> Any:
        async with web or Web() as http:
            made = prebuilt(name, Means(http, key))
            assert made is not None
            return await made.execute(arguments)

    return virtual_time.run(main())


def answering(status: int, body: Any) -> Web:
    return Web(lambda host, query, request: (status, body))


# Weather -----------------------------------------------------------------------------------------------------


def test_the_weather_is_that_of_the_place_which_was_meant() -> None:
    web = Web()
    assert execute("weather", {"location": "Portland, Oregon"}, web) == {
        "location": "Portland, Oregon, United States",
        "conditions": "light rain",
        "temperature": 7.4,
        "feels_like": 5.1,
        "humidity_percent": 87,
        "wind_speed": 8.6,
        "units": {"temperature": "celsius", "wind_speed": "km/h"},
        "local_time": "2026-11-20T04:00",
    }
    (_, place, _), (_, forecast, request) = web.seen
    assert place == {"name": "Portland", "count": "10", "language": "en", "format": "json"}
    assert (forecast["latitude"], forecast["longitude"]) == ("45.52345", "-122.67621")
    assert (forecast["temperature_unit"], forecast["timezone"]) == ("celsius", "auto")
    assert set(forecast["current"].split(",")) == {*CURRENT} - {"time", "interval"}
    assert request.headers["user-agent"].startswith("agentd/")


def test_without_a_region_the_first_place_counts_and_fahrenheit_goes_with_miles() -> None:
    web = Web()
    result = execute("weather", {"location": "Portland", "scale": "fahrenheit"}, web)
    assert result["location"] == "Portland, Maine, United States"
    assert result["units"] == {"temperature": "fahrenheit", "wind_speed": "mph"}
    assert (web.seen[1][1]["temperature_unit"], web.seen[1][1]["wind_speed_unit"]) == ("fahrenheit", "mph")


def test_a_region_may_be_any_part_of_the_address_and_one_that_is_not_known_takes_the_first_place() -> None:
    assert execute("weather", {"location": "Portland, multnomah, us"})["location"].startswith("Portland, Oregon")
    assert execute("weather", {"location": "Portland, OR"})["location"].startswith("Portland, Maine")


def test_a_place_that_nobody_knows_is_told() -> None:
    wanted = "expected the name of a place, got 'Atlantis', which is not known"
    assert execute("weather", {"location": "Atlantis"}) == {"error": wanted}


def test_a_scale_that_is_none_is_told() -> None:
    wanted = "expected scale to be celsius or fahrenheit, got 'kelvin'"
    assert execute("weather", {"location": "Portland", "scale": "kelvin"}) == {"error": wanted}


def test_every_code_of_the_forecast_has_words_and_a_new_one_is_unknown() -> None:
    assert len(CONDITIONS) == 28

    def strange(host: str, query: Mapping[str, str], request: Request) -> tuple[int, Any]:
        return 200, {"results": PLACES, "current": {**CURRENT, "weather_code": 4}}

    assert execute("weather", {"location": "Portland"}, Web(strange))["conditions"] == "unknown"


# Wikipedia ---------------------------------------------------------------------------------------------------


def test_the_first_article_that_is_no_list_of_meanings_is_summarized() -> None:
    web = Web()
    assert execute("wikipedia", {"query": "Mercury"}, web) == {
        "title": "Mercury (planet)",
        "summary": "Mercury is a planet. It is small.",
        "see_also": ["Mercury", "Mercury (element)"],
    }
    ((host, query, _),) = web.seen
    assert host == "en.wikipedia.org"
    assert (query["action"], query["generator"], query["prop"]) == ("query", "search", "extracts|pageprops")


def test_another_language_is_another_wikipedia() -> None:
    web = Web()
    execute("wikipedia", {"query": "Mercury", "language": "de"}, web)
    assert web.seen[0][0] == "de.wikipedia.org"


@pytest.mark.parametrize(
    "language", ["evil.example/", "en.evil", "EN", "e", "en-", "a" * 9, "en\n", "@evil", "../x", 5, ["en"], "\udfff"]
)
def test_a_language_that_is_none_never_becomes_a_host(language: Any) -> None:
    web = Web()
    result = execute("wikipedia", {"query": "Mercury", "language": language}, web)
    assert result["error"].startswith("expected language to be a code such as en or de, got ")
    assert web.seen == []


def test_what_wikipedia_does_not_know_is_told() -> None:
    assert execute("wikipedia", {"query": "qqqq"}) == {"error": "expected something that Wikipedia knows, got 'qqqq'"}


def test_a_long_summary_ends_with_a_sentence() -> None:
    page = {"index": 1, "title": "Long", "extract": "This is a sentence. " * 200}
    summary = execute("wikipedia", {"query": "x"}, answering(200, {"query": {"pages": [page]}}))["summary"]
    assert 1400 < len(summary) <= 1500 and summary.endswith("sentence.")
    assert len(cut("x" * 2000, 1500)) == 1500


def test_an_error_of_the_api_is_one() -> None:
    web = answering(200, {"error": {"code": "ratelimited", "info": "slow down"}})
    assert execute("wikipedia", {"query": "x"}, web) == {"error": "expected articles from Wikipedia, got an error"}


# Web search --------------------------------------------------------------------------------------------------


def test_a_search_has_an_answer_and_a_few_short_results() -> None:
    web = Web()
    result = execute("web_search", {"query": "when does the louvre open"}, web)
    assert result["answer"] == "The Louvre opens at 9."
    assert [item["title"] for item in result["results"]] == [f"Page {n}" for n in range(5)]
    assert all(len(item["content"]) <= 600 and item["content"].endswith(".") for item in result["results"])
    assert web.seen[0][2].json() == {
        "query": "when does the louvre open",
        "search_depth": "basic",
        "include_answer": True,
        "max_results": 5,
    }


def test_a_wrong_key_is_an_error_that_does_not_name_it() -> None:
    wanted = "expected an answer from api.tavily.com, got HTTP 401"
    assert execute("web_search", {"query": "x"}, key="tvly-wrong") == {"error": wanted}


def test_without_a_key_there_is_no_search() -> None:
    assert prebuilt("web_search", Means(Web())) is None
    assert KEY not in repr(Means(Web(), KEY))


# All of them -------------------------------------------------------------------------------------------------

CALLS = {"weather": {"location": "Portland"}, "wikipedia": {"query": "Mercury"}, "web_search": {"query": "x"}}
HOSTS = {"weather": "geocoding-api.open-meteo.com", "wikipedia": "en.wikipedia.org", "web_search": "api.tavily.com"}


class Down(Web):
    async def request(self, *args: Any, **more: Any) -> Any:
        raise AgentdError("the address may hold a key")


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize(
    ("web", "error"),
    [
        (lambda: Web(hangs=True), f"expected an answer within {SECONDS:g} s, got none"),
        (lambda: answering(500, {}), "expected an answer from {host}, got HTTP 500"),
        (lambda: answering(302, {}), "expected an answer from {host}, got HTTP 302"),
        (lambda: answering(200, b"<html>"), "expected JSON from {host}, got something else"),
        (lambda: answering(200, b"[" * 100_000), "expected JSON from {host}, got something else"),
        (Down, "expected an answer from {host}, got AgentdError"),
    ],
    ids=["hangs", "500", "redirect", "html", "deep", "down"],
)
def test_whatever_a_service_does_is_a_result(name: str, web: Any, error: str) -> None:
    assert execute(name, CALLS[name], web()) == {"error": error.format(host=HOSTS[name])}


MANGLED: list[Any] = [None, 5, "x", [], {}, {"results": 5}, {"results": [5]}, {"results": [{}]}, {"query": 5}]
MANGLED += [{"query": {"pages": [5]}}, {"query": {"pages": [{"extract": "x"}]}}, {"results": [{"latitude": "x"}]}]


@pytest.mark.parametrize("name", CALLS)
def test_an_answer_in_another_format_is_no_crash(name: str) -> None:
    assert all("error" in execute(name, CALLS[name], answering(200, body)) for body in MANGLED)


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("value", [None, "", "  ", 5, ["x"], "x" * 2000], ids=lambda value: str(value)[:9])
def test_arguments_of_another_kind_are_an_error_and_nobody_is_asked(name: str, value: Any) -> None:
    web, (key,) = Web(), CALLS[name]
    assert execute(name, {key: value}, web)["error"].startswith(f"expected {key} to be text such as ")
    assert web.seen == []


def test_words_are_asked_for_as_they_are_and_half_a_character_is_left_out() -> None:
    web = Web()
    execute("wikipedia", {"query": "café & \ud83d?x=1#y"}, web)
    assert web.seen[0][1]["gsrsearch"] == "café & ??x=1#y"


# In an agent -------------------------------------------------------------------------------------------------


def test_an_agent_is_offered_what_the_call_has_the_means_for() -> None:
    def offered(means: Means | None) -> list[str]:
        every = agent(tools=list(NAMES))
        return [tool.name for tool in setup.toolbox(every, [], Outside(means=means)).tools]

    assert offered(None) == ["datetime", "calculator"]
    assert offered(Means(Web())) == ["datetime", "calculator", "weather", "wikipedia"]
    assert offered(Means(Web(), KEY)) == ["datetime", "calculator", "weather", "wikipedia", "web_search"]


def test_the_key_is_the_configurations_or_the_environments(monkeypatch: pytest.MonkeyPatch) -> None:
    configured = Server.model_validate({"credentials": {"tavily": {"apiKey": "one"}}})
    monkeypatch.delenv("TAVILY_API_KEY", raising=False)
    assert (setup.tavily_key(configured), setup.tavily_key(Server())) == ("one", "")
    monkeypatch.setenv("TAVILY_API_KEY", "two")
    assert (setup.tavily_key(configured), setup.tavily_key(Server())) == ("one", "two")
    monkeypatch.setenv("TAVILY_API_KEY", "t\nwo")
    assert setup.tavily_key(Server()) == ""


def test_it_is_said_at_the_start_that_a_key_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TAVILY_API_KEY", raising=False)
    (tmp_path / "agentd.yaml").write_text(
        "defaults: {stt: {vendor: local}, llm: {vendor: demo}, tts: {vendor: local}}\n"
    )
    (tmp_path / "agents").mkdir()
    (tmp_path / "agents" / "desk.yaml").write_text("tools: [weather, web_search]\n")
    config = load.load(tmp_path / "agentd.yaml")
    wanted = "expected credentials.tavily.apiKey (often ${TAVILY_API_KEY}), got none"
    lines = list(load.missing(config, Shared()))
    assert f"agent desk: tools: web_search is not offered: {wanted}" in lines
    monkeypatch.setenv("TAVILY_API_KEY", KEY)
    assert len(list(load.missing(config, Shared()))) == len(lines) - 1
