"""What Prometheus is told of calls, and who may ask."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families as plain

from agentd.ops.log import EventLog
from agentd.ops.metrics import MANY, OTHER, Metrics
from agentd.ops.shared_metrics import VARIABLE, shared_metrics, worker_ended
from tests import virtual_time
from tests.jambonz import voice
from tests.whole_call import House, agent, say

LABELS = {"agent", "reason", "part", "vendor", "cause", "result", "role", "code", "to", "kind", "le"}


def figures(text: str, *, parse: Any = plain) -> dict[str, float]:
    """Every sample but the buckets, as ``name{label="value"}`` without the prefix."""
    found: dict[str, float] = {}
    for family in parse(text):
        for sample in family.samples:
            assert set(sample.labels) <= LABELS
            if not sample.name.endswith(("_bucket", "_created")):
                labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
                found[sample.name.removeprefix("agentd_") + (f"{{{labels}}}" if labels else "")] = sample.value
    return found


def of(house: House) -> dict[str, float]:
    return figures(house.node.metrics.exposition("")[0].decode())


def test_a_call_is_counted_while_it_goes_on_and_when_it_ends() -> None:
    house = House(agent(["hello", "again"], ["Yes, I am here."], stt={"delay": 0.3}, llm={"first": 0.25}))

    async def main() -> None:
        async with house.call() as call:
            await house.turn(call)
            during = of(house)
            assert (during["calls_begun_total{agent=demo}"], during["calls_live{agent=demo}"]) == (1, 1)
            assert "calls_ended_total{agent=demo,reason=disconnect from remote end}" not in during
            await house.turn(call)
            call.hang_up()

    virtual_time.run(main())
    told, turns = of(house), house.entries("turn_end")
    assert told["calls_live{agent=demo}"] == 0
    assert told["calls_ended_total{agent=demo,reason=disconnect from remote end}"] == 1
    assert told["turns_total{agent=demo,cause=caller}"] == 2
    for part, vendor in {"stt": "scripted", "llm": "scripted", "tts": "scripted", "total": "", "playout": ""}.items():
        labels = f"{{part={part},vendor={vendor}}}"
        assert told[f"turn_latency_seconds_count{labels}"] == 2
        assert told[f"turn_latency_seconds_sum{labels}"] == pytest.approx(sum(turn["parts"][part] for turn in turns))
    assert told["tts_characters_total{vendor=scripted}"] == 30
    used = house.entries("call_ended")[0]["usage"]
    assert told["stt_seconds_total{vendor=scripted}"] == pytest.approx(used["stt"]["scripted"]["seconds"], abs=0.01)
    assert told["played_seconds_total"] == pytest.approx(used["played"]["seconds"])
    assert told["call_duration_seconds_count"] == 1


def test_the_parts_of_a_turn_are_its_own_whatever_names_go_out() -> None:
    house = House(agent(["hello"]), events={"names": "sdk"})

    async def main() -> None:
        async with house.call() as call:
            await house.turn(call)

    virtual_time.run(main())
    parts = {name: house.entries("turn_end")[0]["parts"][name] for name in ("llm", "total")}
    told = of(house)
    assert told["turn_latency_seconds_sum{part=total,vendor=}"] == parts["total"]
    assert told["turn_latency_seconds_sum{part=llm,vendor=scripted}"] == parts["llm"]


def test_a_greeting_is_no_answer() -> None:
    house = House(agent(greeting="Good morning."))

    async def main() -> None:
        async with house.call() as call:
            await call.until(lambda: house.entries("turn_end"))

    virtual_time.run(main())
    told = of(house)
    assert told["greeting_latency_seconds_count"] == 1
    assert [name for name in told if name.startswith("turn_latency")] == []


def test_an_interruption_is_timed_from_the_callers_first_sound() -> None:
    house = House(agent(["hello", "stop"], ["One two three four five six seven eight nine ten."]))

    async def main() -> None:
        async with house.call() as call:
            await house.speaking(call)
            call.say(voice(0.8))
            await call.until(lambda: house.entries("user_interruption"))

    virtual_time.run(main())
    told = of(house)
    assert told["interruptions_total{agent=demo}"] == told["barge_in_stop_seconds_count"] == 1
    assert told["barge_in_stop_seconds_sum"] == pytest.approx(0.5, abs=0.04)  # the verb's minSpeechDuration


def test_tools_and_what_fails_are_counted() -> None:
    calls = [{"tools": [{"name": "calculator", "arguments": {"expression": expression}}]} for expression in ("1+1", 7)]
    replies = [*calls, "It is two.", {"error": "llm-bad-request", "text": ""}]
    house = House(agent(["add", "again"], replies, tools=["calculator"]))

    async def main() -> None:
        async with house.call() as call:
            await house.turn(call)
            await say(call)
            await call.until(lambda: house.entries("turn_failed"))

    virtual_time.run(main())
    told = of(house)
    assert told["tool_calls_total{agent=demo}"] == told["tool_duration_seconds_count"] == 2
    assert told["tool_failures_total{agent=demo}"] == 1
    assert told["vendor_failures_total{code=llm-bad-request,role=llm,vendor=scripted}"] >= 1
    assert told["turn_failures_total{agent=demo,code=llm-bad-request}"] == 1


def log_of(metrics: Metrics) -> EventLog:
    events = EventLog(lambda: 0.0)
    metrics.observe("desk", events)
    return events


def test_only_another_vendor_is_a_fallback() -> None:
    metrics = Metrics()
    events = log_of(metrics)
    for then in ("openai:m", "anthropic:c", ""):
        events.append("vendor_failed", role="llm", vendor="openai:m", code="llm-timeout", then=then)
    told = figures(metrics.exposition("")[0].decode())
    assert told["vendor_failures_total{code=llm-timeout,role=llm,vendor=openai}"] == 3
    assert {name: value for name, value in told.items() if name.startswith("fallbacks")} == {
        "fallbacks_total{role=llm,to=anthropic,vendor=openai}": 1
    }


def test_a_label_has_only_so_many_values() -> None:
    metrics = Metrics()
    events = log_of(metrics)
    for number in range(MANY + 50):
        events.append("turn_failed", turn=1, code=f"code-{number}")
    told = figures(metrics.exposition("")[0].decode())
    assert len([name for name in told if name.startswith("turn_failures")]) == MANY + 1
    assert told[f"turn_failures_total{{agent=desk,code={OTHER}}}"] == 50


def test_an_entry_that_cannot_be_counted_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    events = log_of(Metrics())
    events.append("turn_end")
    assert [record.message for record in caplog.records] == ["entry not counted"]


# Who asks ----------------------------------------------------------------------------------------------------

KEYS = {
    "keys": [{"key": "all"}, {"key": "desk", "agents": ["desk"]}, {"key": "acme", "accounts": ["acme"]}],
    "listen": [{"username": "jambonz", "password": "word"}],
}


def client(house: House, **headers: str) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(house.app, client=("127.0.0.1", 40000))
    return httpx.AsyncClient(transport=transport, base_url="http://localhost", headers=headers)


@pytest.mark.parametrize(("key", "status"), [("", 401), ("wrong", 401), ("desk", 403), ("acme", 403), ("all", 200)])
def test_only_a_key_for_everything_sees_the_figures(key: str, status: int) -> None:
    house = House(agent(), access=KEYS)

    async def main() -> int:
        async with client(house, **({"Authorization": f"Bearer {key}"} if key else {})) as http:
            return (await http.get("/metrics")).status_code

    assert virtual_time.run(main()) == status


@pytest.mark.parametrize(
    ("accept", "kind", "parse"),
    [
        ("", "text/plain", plain),
        ("application/openmetrics-text;version=1.0.0,text/plain;q=0.5", "application/openmetrics-text", open_metrics),
    ],
)
def test_the_format_is_the_one_that_is_asked_for(accept: str, kind: str, parse: Any) -> None:
    house = House(agent())
    house.node.metrics.refused("busy")

    async def main() -> httpx.Response:
        async with client(house, accept=accept) as http:
            return await http.get("/metrics")

    answer = virtual_time.run(main())
    assert answer.headers["content-type"].startswith(kind)
    assert figures(answer.text, parse=parse)["calls_refused_total{reason=busy}"] == 1


def test_a_call_that_is_not_taken_is_counted_by_why() -> None:
    house = House(agent())

    async def main() -> None:
        for name in ("nobody", "nobody"):
            async with house.call(agent=name) as call:
                await call.until(lambda: call.closed is not None)

    virtual_time.run(main())
    assert of(house)["calls_refused_total{reason=request}"] == 2


# Several processes -------------------------------------------------------------------------------------------

WORKER = """
import sys
from agentd.ops.log import EventLog
from agentd.ops.metrics import Metrics

metrics = Metrics()
for number in range(int(sys.argv[1])):
    metrics.observe("desk", EventLog(lambda: 0.0))
metrics.loop(float(sys.argv[2]), 0.25)
metrics._latency.labels("total", "").observe(0.3)
print("here", flush=True)
sys.stdin.readline()
print(metrics.exposition("")[0].decode() + "# that is all", flush=True)
sys.stdin.readline()
"""


@asynccontextmanager
async def worker(*argv: str) -> AsyncIterator[asyncio.subprocess.Process]:
    pipes: Mapping[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", WORKER, *argv, **pipes, limit=1 << 20)
    try:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"here\n"
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def scraped(process: asyncio.subprocess.Process) -> dict[str, float]:
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(b"\n")
    text = b""
    while not text.endswith(b"# that is all\n"):
        line = await process.stdout.readline()
        assert line, text
        text += line
    return figures(text.decode())


def test_whichever_worker_is_asked_tells_the_sum_and_one_that_died_is_no_longer_live(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)

    async def main() -> None:
        with shared_metrics():
            folder = os.environ[VARIABLE]
            async with asyncio.timeout(30), worker("3", "0.5") as one:
                async with worker("2", "0.1") as other:
                    told = await scraped(other)
                    assert told["calls_begun_total{agent=desk}"] == told["calls_live{agent=desk}"] == 5
                    assert told["turn_latency_seconds_count{part=total,vendor=}"] == 2
                    assert (told["loop_lag_seconds"], told["loop_cpu_cores"]) == (0.5, 0.5)
                    pid = other.pid
                worker_ended(pid)
                told = await scraped(one)
                assert (told["calls_begun_total{agent=desk}"], told["calls_live{agent=desk}"]) == (5, 3)
                assert told["loop_cpu_cores"] == 0.25
        assert VARIABLE not in os.environ
        folders.append(Path(folder))

    folders: list[Path] = []
    asyncio.run(main())
    assert not folders[0].exists()


def test_a_folder_that_the_operator_names_is_theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "figures"))
    with shared_metrics():
        assert (tmp_path / "figures").is_dir()
    assert (tmp_path / "figures").is_dir() and os.environ[VARIABLE] == str(tmp_path / "figures")
