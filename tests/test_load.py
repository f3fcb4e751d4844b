"""`agentd load`: what it measures, what it makes of it, and what it says when calls do not come off."""

import asyncio
import contextlib
import io
import json
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from agentd.call.ear import webrtc_detector
from agentd.cli import _parser
from agentd.errors import AgentdError
from agentd.jambonz.listen import Node
from agentd.loadtest import command
from agentd.loadtest.figures import Sample, Seen, Stretch, counted, figures, series, spread
from agentd.loadtest.lateness import Lateness
from agentd.loadtest.page import page
from agentd.loadtest.phone import Target
from agentd.loadtest.report import Run, report
from agentd.loadtest.run import LoadTest, Steps
from agentd.loadtest.simulated import Delays
from agentd.loadtest.simulated.vendors import AGENT, Vendors, agent_file
from agentd.loadtest.talk import Plan, State, Talk, Turn
from agentd.loadtest.voice import FRAME, Utterance, buzzes, is_loud
from agentd.loadtest.watch import usage
from agentd.server import Server
from config.files import Config
from config.server import Server as ServerConfig
from config.verb import Agent
from tests import virtual_time
from tests.command import code_of

# Figures ------------------------------------------------------------------------------------------------


def test_percentiles_are_values_that_were_measured() -> None:
    assert spread([None, *range(1, 101)]) == {"count": 100, "p50": 50, "p95": 95, "p99": 99, "most": 100}
    assert spread([7.0]) == {"count": 1, "p50": 7.0, "p95": 7.0, "p99": 7.0, "most": 7.0}
    assert spread([None]) is None


def test_lateness_is_kept_by_tenths_of_a_millisecond() -> None:
    late = Lateness()
    for milliseconds in (-3, 0, 1.25, 1.25, 40):
        late.add(milliseconds / 1000)
    assert [round(late.quantile(share) * 1000, 1) for share in (0.4, 0.5, 0.8, 1.0)] == [0.0, 1.2, 1.2, 40.0]


def a_stretch() -> Stretch:
    return Stretch(
        2,
        began=10.0,
        ended=20.0,
        turns=[
            Seen(11.0, gap=450.0, heard=530.0),
            Seen(14.0, gap=420.0, heard=500.0, stop=12.0, silent=240.0, is_barge_in=True, lost_frames=3),
            Seen(15.0, is_missed=True, is_barge_in=True, is_ignored=True),
        ],
        parts=[(14.0, {"llm_ms": 201, "preflight": 1})],
        samples=[
            Sample(11.0, 2, own=0.1, cpu=0.25, waited=0.0, rss=300_000_000, files=9),
            Sample(12.0, 2, own=0.3, cpu=0.35, waited=0.1, rss=310_000_000, files=8),
        ],
        idle_rss=270_000_000,
    )


def test_what_the_server_added_is_the_gap_less_what_the_vendors_took() -> None:
    found = figures(a_stretch(), delays=0.4)
    assert found["gap_ms"] == {"count": 2, "p50": 420.0, "p95": 450.0, "p99": 450.0, "most": 450.0}
    assert found["added_ms"] == {"count": 2, "p50": 20.0, "p95": 50.0, "p99": 50.0, "most": 50.0}
    assert found["barge_in"] == {
        "count": 2,
        "ignored": 1,
        "stop_ms": spread([12.0]),
        "silent_ms": spread([240.0]),
    }
    assert (found["turns"], found["answered"], found["missed"], found["lost_frames"]) == (3, 2, 1, 3)
    assert found["parts"] == {"llm_ms": spread([201])}
    assert "added_ms" not in figures(a_stretch())


def test_cpu_is_told_by_the_second_of_a_call_and_memory_above_the_idle_server() -> None:
    assert figures(a_stretch())["server"] == {
        "cpu_percent": 30.0,
        "waited_percent": 5.0,
        "rss_mb": 310.0,
        "files": 9,
        "cpu_ms_per_call_second": 150.0,
        "rss_kb_per_call": 20_000,
    }


def test_a_run_is_told_in_stretches_of_whole_seconds() -> None:
    assert series([(0.2, 5.0), (0.9, 7.0), (2.5, 1.0), (2.6, None)], seconds=3.0) == {
        "p50": [[0.5, 5.0], [2.5, 1.0]],
        "p95": [[0.5, 7.0], [2.5, 1.0]],
        "p99": [[0.5, 7.0], [2.5, 1.0]],
    }
    assert counted([0.1, 119.0, 119.5], seconds=120.0, steps=3) == [[20.0, 1], [60.0, 0], [100.0, 2]]


def test_the_page_has_the_figures_and_needs_nothing_from_elsewhere() -> None:
    run = Run("ws://127.0.0.1:8080/listen/<desk>", Plan(), Delays(), [a_stretch(), a_stretch()], ["nobody looked"])
    shown = page(report(run, allowed=0.5))
    assert shown.count("<svg") == shown.count("</svg>") >= 10
    assert "<td>420</td>" in shown and "<td>150</td>" in shown and "nobody looked" in shown
    assert "&lt;desk&gt;" in shown and "<desk>" not in shown
    assert not any(word in shown for word in ("http:", "https:", "src=", "url(", "@import", "<link", "<script"))


def test_missed_turns_and_refused_calls_are_why_a_run_was_not_good() -> None:
    stretch = a_stretch()
    assert report(Run("", Plan(), None, [stretch]), allowed=0.34)["is_good"]
    stretch.refused, stretch.reasons = 2, {"HTTP 503": 2}
    assert report(Run("", Plan(), None, [stretch]), allowed=0.33)["why_not"] == [
        "2 calls were refused (HTTP 503)",
        "1 of 3 turns were not answered in time",
    ]
    assert report(Run("", Plan()), allowed=1.0)["why_not"] == ["no turn was measured"]


def test_callers_that_are_late_themselves_are_named() -> None:
    stretch = a_stretch()
    stretch.late = {"count": 9, "p50": 0.1, "p99": 10.1, "most": 30.0}
    (warning,) = report(Run("", Plan(), None, [stretch]), allowed=1.0)["warnings"]
    assert warning.startswith("at 2 calls the callers themselves were late (p99 10.1 ms)")


def test_a_core_that_others_had_is_named() -> None:
    stretch = a_stretch()
    stretch.samples.append(Sample(13.0, 2, own=0.1, cpu=0.1, waited=0.5, rss=1, files=1))
    (warning,) = report(Run("", Plan(), None, [stretch]), allowed=1.0)["warnings"]
    assert warning == "at 2 calls the server waited 20 % of the time for a core that others had"


# The caller ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [8000, 16000])
def test_the_buzz_is_a_voice_to_the_detector_from_end_to_end(rate: int) -> None:
    for said in buzzes(rate):
        is_voiced = webrtc_detector(rate)
        assert all(is_voiced(frame) for frame in said.frames) and all(map(is_loud, said.frames))
        assert 0.7 < said.seconds < 1.5


class Line:
    """A talk, 20 ms at a time."""

    def __init__(self, plan: Plan, frames: int = 40) -> None:
        self.turns: list[Turn] = []
        self.now = 0.0
        said = Utterance(tuple(b"%d" % number for number in range(frames)))
        self.talk = Talk([said], plan, random.Random(1), self.turns.append, 0.0)

    def ticks(self, seconds: float, *, sound: bool = False) -> int:
        """How many frames the caller said meanwhile."""
        said = 0
        for _ in range(round(seconds / FRAME)):
            self.now = round(self.now + FRAME, 2)
            said += self.talk.tick(self.now, is_idle=not sound, is_audible=sound) is not None
        return said

    def answer(self, seconds: float) -> None:
        self.talk.audible(self.now)
        self.ticks(seconds, sound=True)


def test_a_turn_is_from_the_last_loud_frame_to_the_first_sound_that_comes() -> None:
    line = Line(Plan(quiet_agent=True))
    assert line.ticks(0.8) == 40 and line.talk.state is State.WAITING
    line.ticks(0.4)
    line.answer(1.0)
    assert line.ticks(0.9) == 5  # 0.8 s of quiet end the answer, and the next turn begins
    assert line.turns == [Turn(began=0.02, stopped=0.8, answered=1.2, heard=1.22)]


def test_a_caller_waits_for_the_end_of_a_greeting_or_two_seconds_for_its_beginning() -> None:
    line = Line(Plan())
    assert line.ticks(1.96) == 0 and line.ticks(0.04) == 1
    line = Line(Plan())
    line.ticks(1.0, sound=True)
    assert line.ticks(0.78) == 0 and line.ticks(0.02) == 1


def test_an_interruption_is_from_the_frame_that_makes_it_long_enough_to_the_word_to_stop() -> None:
    line = Line(Plan(barge_in=1.0, quiet_agent=True))
    line.ticks(0.8)
    line.answer(0.2)
    while line.talk.state is not State.SPEAKING:
        line.ticks(FRAME, sound=True)
    began = line.now
    line.ticks(0.2, sound=True)
    line.ticks(0.3)
    line.talk.killed(line.now)
    line.ticks(0.5)
    assert line.talk.turn is not None
    turn = line.talk.turn
    assert turn.is_barge_in and turn.stopped == pytest.approx(began + 0.78)
    assert turn.confirmed == pytest.approx(began + 0.48) and turn.killed == pytest.approx(began + 0.5)
    assert turn.silent == pytest.approx(began + 0.2)


def test_an_agent_that_talks_on_has_ignored_the_interruption() -> None:
    line = Line(Plan(barge_in=1.0, quiet_agent=True))
    line.ticks(0.8)
    line.answer(5.0)
    line.ticks(1.0)
    assert [turn.is_ignored for turn in line.turns if turn.is_barge_in] == [True]


def test_a_turn_that_nobody_answers_is_missed_and_the_caller_says_the_next_thing() -> None:
    line = Line(Plan(deadline=3.0, quiet_agent=True))
    line.ticks(0.8)
    assert line.ticks(3.1) > 0
    assert [turn.is_missed for turn in line.turns] == [True]


def test_frames_that_are_not_there_when_they_are_to_be_played_are_lost() -> None:
    line = Line(Plan(quiet_agent=True))
    line.ticks(0.8)
    line.answer(0.5)
    line.ticks(0.06)
    line.ticks(0.5, sound=True)
    line.ticks(1.0)
    assert [turn.lost_frames for turn in line.turns] == [3]


# Whole runs ---------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def served(vendors: Vendors) -> AsyncIterator[str]:
    """A real server in this loop, that asks simulated vendors."""
    process = ServerConfig.model_validate({**vendors.server_file(0), "turn": {"engine": "rule"}})
    node = Node(Config(process, {AGENT: Agent.model_validate(agent_file())}))
    server = Server(node, "127.0.0.1", 0)
    serving = asyncio.create_task(server.serve())
    await server.up()
    try:
        yield f"ws://127.0.0.1:{server.port}/listen/{AGENT}"
    finally:
        server.should_exit = True
        await serving


def test_three_calls_against_simulated_vendors_are_answered_in_the_time_that_these_take() -> None:
    async def go() -> dict[str, Any]:
        async with Vendors(Delays()) as vendors, served(vendors) as url:
            run = Run(url, Plan(barge_in=0.5), vendors.delays)
            steps = Steps([3], ramp=0.5, seconds=8.0)
            await LoadTest(run, Target(url), list(buzzes(8000)), steps, vendors=vendors).go()
            return report(run, allowed=0.0)

    found = virtual_time.run(go())
    (three,) = found["steps"]
    assert found["is_good"], found["why_not"]
    assert three["turns"] >= 3
    assert three["answered"] == three["turns"] and three["lost_frames"] == three["unsent_frames"] == 0
    # A first token that may be a word is spoken at once; for others the next one is waited for, 10 ms later.
    assert 0 <= round(three["added_ms"]["p50"]) <= 10 and three["added_ms"]["most"] <= 60
    assert three["barge_in"]["count"] >= 1 and three["barge_in"]["stop_ms"]["most"] <= 20
    assert three["generator"]["late_ms"]["p99"] == three["generator"]["vendors_late_ms"]["p99"] == 0.0


def test_an_upgrade_that_nobody_answers_is_given_up() -> None:
    async def go() -> dict[str, Any]:
        async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()
            writer.close()

        run = Run("", Plan())
        async with await asyncio.start_server(hold, "127.0.0.1", 0) as server:
            target = Target(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/listen/desk")
            await LoadTest(run, target, list(buzzes(8000)), Steps([1], ramp=0.0, seconds=4.0)).go()
            await asyncio.sleep(1.0)
        return report(run, allowed=0.0)

    (step,) = virtual_time.run(go())["steps"]
    assert step["reasons"] == {"no answer": 1} and step["unreached"] == 1


async def refusing() -> asyncio.Server:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
            await writer.drain()
        writer.close()

    return await asyncio.start_server(refuse, "127.0.0.1", 0)


def arguments(*given: str) -> Any:
    return _parser().parse_args(["load", *given])


def run_command(*given: str) -> tuple[int, str]:
    """Against a server that takes no calls: the exit code, and what was printed."""

    async def go() -> tuple[int, str]:
        told = io.StringIO()
        async with await refusing() as server:
            port = server.sockets[0].getsockname()[1]
            asked = arguments(f"ws://127.0.0.1:{port}/listen/desk", *given)
            asked.vendors = "simulated"  # a voice that needs no engine
            asked.vendor_port = 0
            return await command.load(asked, Console(file=told, width=400)), told.getvalue()

    return virtual_time.run(go())


def test_refused_calls_are_counted_and_the_exit_code_is_1(tmp_path: Path) -> None:
    code, told = run_command("--calls", "2", "--ramp", "0", "--seconds", "4", "--json", str(tmp_path / "load.json"))
    step = json.loads((tmp_path / "load.json").read_text())["steps"][0]
    assert code == 1 and "calls were refused (HTTP 503)" in told
    assert step["refused"] >= 2 and step["reasons"] == {"HTTP 503": step["refused"]}
    assert (step["turns"], step["dropped"]) == (0, 0)


def test_a_run_that_is_cut_short_writes_what_there_is(tmp_path: Path) -> None:
    file, html = tmp_path / "load.json", tmp_path / "load.html"

    async def go() -> int:
        console = Console(file=io.StringIO(), force_terminal=True)
        async with Vendors(Delays()) as vendors, served(vendors) as url:
            asked = arguments(url, "--calls", "1", "--ramp", "0", "--json", str(file), "--html", str(html))
            asked.vendors, asked.vendor_port = "simulated", 0
            loading = asyncio.create_task(command.load(asked, console))
            await asyncio.sleep(10.0)
            loading.cancel()  # as asyncio.Runner does at Ctrl-C
            return await loading

    assert virtual_time.run(go()) == command.INTERRUPTED
    found = json.loads(file.read_text())
    assert found["steps"][0]["turns"] >= 1 and 8.0 <= found["steps"][0]["seconds"] <= 9.0
    assert "the run was cut short: the figures are those so far" in found["warnings"]
    assert "cut short" in html.read_text()


def test_nobody_who_answers_is_no_refusal() -> None:
    async def go() -> dict[str, Any]:
        async with await refusing() as server:
            port = server.sockets[0].getsockname()[1]
        run = Run("", Plan())
        target = Target(f"ws://127.0.0.1:{port}/listen/desk")
        await LoadTest(run, target, list(buzzes(8000)), Steps([1], ramp=0.0, seconds=0.5)).go()
        return report(run, allowed=0.0)

    (step,) = virtual_time.run(go())["steps"]
    assert step["unreached"] >= 1 and step["refused"] == 0 and step["reasons"] == {"ConnectionRefusedError": 1}


# The command --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ([], "expected a URL, or --vendors simulated for a server of its own; got neither"),
        (["http://host/listen/desk"], "expected a URL that begins with ws:// or wss://, got another"),
        (["ws://h/listen/a", "--calls", "2", "--steps", "1,2"], "expected --calls or --steps, got both"),
        (["ws://h/listen/a", "--user", "me"], "expected --user and --password-env together, got one of them"),
        (
            ["ws://h/listen/a", "--user", "me", "--password-env", "NOT_THERE"],
            "expected the environment to have NOT_THERE, and it has not",
        ),
    ],
)
def test_what_cannot_be_meant_is_said(given: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert code_of("load", *given) == 1
    assert capsys.readouterr().err == f"agentd: {told}\n"


def test_arguments_have_units() -> None:
    asked = arguments("--steps", "10, 50", "--ramp", "10s", "--seconds", "2m", "--delays", "llm=50,token=5")
    assert (asked.steps, asked.ramp, asked.seconds) == ([10, 50], 10.0, 120.0)
    assert asked.delays == Delays(llm=0.05, token=0.005)
    with pytest.raises(AgentdError, match="expected delays as stt=MS,llm=MS,tts=MS,token=MS; got 'ears=1'"):
        Delays.read("ears=1")


def test_a_process_is_watched_with_its_children() -> None:
    import os

    own = usage(os.getpid())
    assert own is not None and own.rss > 1_000_000 and own.files > 0 and own.cpu > 0
    assert usage(2**22 + 1) is None


@pytest.mark.nightly
def test_the_command_starts_a_server_of_its_own_and_measures_it(tmp_path: Path) -> None:
    file = tmp_path / "load.json"
    given = ("--calls", "3", "--ramp", "0", "--seconds", "14", "--barge-in", "0", "--hang-up", "0", "--json", str(file))
    assert code_of("load", "--vendors", "simulated", *given) == 0
    (step,) = json.loads(file.read_text())["steps"]
    assert step["answered"] == step["turns"] >= 3
    assert step["server"]["cpu_percent"] > 0 and step["parts"]["llm_ms"]["p50"] >= 199
