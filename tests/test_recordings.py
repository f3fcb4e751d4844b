"""Where recordings lie, what they are called, how long they are kept, and who gets them over REST."""

import asyncio
import json
import os
import stat
import wave
from collections.abc import Coroutine, Mapping
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest

from agentd.jambonz.listen import Node
from agentd.load import missing
from agentd.ops import recordings as store
from agentd.ops.recording_files import About, RecordingFiles, known
from agentd.ops.recordings import Recordings, recordings_of
from agentd.ops.registry import proof_of
from config.files import Config
from config.server import Server
from config.verb import Agent
from providers.registry import Shared
from tests import virtual_time
from tests.whole_call import House, agent

T = TypeVar("T")
SECRET = "a secret of sixteen letters"


def about(call_sid: str = "c-1", account_sid: str = "a-1", agent: str = "demo", **more: Any) -> About:
    return About(call_sid, account_sid, agent, **{"since": 1_700_000_000.5, "rate": 8000, **more})


def made(folder: Path, what: About, seconds: float = 1.0, *, is_whole: bool = True) -> RecordingFiles:
    """A recording of a call that said nothing."""
    files = RecordingFiles.create(folder, what)
    files.sound(0, bytes(int(seconds * what.rate) * 4))
    files.lines(b'{"at": 0.0, "type": "recording"}\n')
    if is_whole:
        files.whole(seconds)
    return files


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def size(folder: Path, call_sid: str) -> int:
    return sum(path.stat().st_size for path in folder.glob(f"*.{call_sid}.*"))


# The files -----------------------------------------------------------------------------------------------


def test_a_recording_is_three_files_that_only_the_servers_user_reads(tmp_path: Path) -> None:
    folder = tmp_path / "state" / "recordings"
    made(folder, about())
    assert names(folder) == [f"a-1.c-1.1700000000500{suffix}" for suffix in (".json", ".jsonl", ".wav")]
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert json.loads((folder / "a-1.c-1.1700000000500.json").read_text()) == {
        "call_sid": "c-1",
        "account_sid": "a-1",
        "agent": "demo",
        "since": 1_700_000_000.5,
        "rate": 8000,
        "proof": None,
        "seconds": 1.0,
        "is_whole": True,
    }


def test_whenever_its_process_is_killed_a_recording_is_a_whole_wav(tmp_path: Path) -> None:
    files = RecordingFiles.create(tmp_path, about())
    path = tmp_path / "a-1.c-1.1700000000500.wav"
    frames = bytes(range(200))
    for at in range(0, 50, 10):
        with wave.open(str(path)) as file:
            assert file.getparams()[:4] == (2, 2, 8000, at)
            assert file.readframes(50) == frames[: at * 4]
        files.sound(at, frames[at * 4 : at * 4 + 40])
    found = known(tmp_path, "a-1.c-1.1700000000500")
    assert found is not None and (found.seconds, found.is_whole) == (round(50 / 8000, 3), False)


def test_what_lies_before_the_first_frame_is_silence_that_takes_no_room(tmp_path: Path) -> None:
    files = RecordingFiles.create(tmp_path, about())
    files.sound(8000 * 3600, b"\1\0\2\0")
    path = tmp_path / "a-1.c-1.1700000000500.wav"
    with wave.open(str(path)) as file:
        assert file.getnframes() == 8000 * 3600 + 1
        assert file.readframes(8000) == bytes(8000 * 4)
        file.setpos(8000 * 3600)
        assert file.readframes(1) == b"\1\0\2\0"
    assert path.stat().st_blocks * 512 < 100_000


@pytest.mark.parametrize(
    "hostile",
    [
        "../../etc/passwd",
        "/etc/passwd",
        "..",
        "",
        "a.b",
        "a b",
        "x" * 65,
        "nul\0",
        "half \ud83d",
        "é",
        "a\n",
        "*",
        "_a",
    ],
)
def test_no_name_from_outside_leaves_the_folder_and_each_is_found_again(tmp_path: Path, hostile: str) -> None:
    folder = tmp_path / "recordings"
    made(folder, about(hostile, hostile))
    assert list(tmp_path.iterdir()) == [folder] and len(names(folder)) == 3
    assert all(path.is_file() and path.name.isascii() and path.name.count(".") == 3 for path in folder.iterdir())

    async def main() -> None:
        recordings = Recordings(folder, days=1, megabytes=1)
        assert [each.about for each in await recordings.known(hostile)] == [about(hostile, hostile)]
        assert await recordings.known("c-1") == []
        await recordings.remove([each.name for each in await recordings.known(hostile)])
        assert names(folder) == []

    virtual_time.run(main())


def test_a_second_call_of_the_same_id_has_files_of_its_own(tmp_path: Path) -> None:
    for seconds in (1.0, 2.0, 3.0):
        made(tmp_path, about(), seconds)
    assert len(names(tmp_path)) == 9

    async def main() -> None:
        found = await Recordings(tmp_path, days=1, megabytes=1).known("c-1")
        assert [each.seconds for each in found] == [3.0, 2.0, 1.0]  # the newest first

    virtual_time.run(main())


def test_one_that_is_removed_while_its_call_goes_on_stays_removed(tmp_path: Path) -> None:
    files = made(tmp_path, about(), is_whole=False)

    async def main() -> None:
        recordings = Recordings(tmp_path, days=1, megabytes=1)
        await recordings.remove([each.name for each in await recordings.known()])

    virtual_time.run(main())
    with pytest.raises(FileNotFoundError):
        files.sound(8000, bytes(4))
    with pytest.raises(FileNotFoundError):
        files.lines(b"{}\n")
    with pytest.raises(FileNotFoundError):
        files.whole(2.0)
    assert names(tmp_path) == []


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"call_sid": 7}', '{"call_sid": "c-1", "rate": 0}'])
def test_what_is_no_recording_is_left_out(tmp_path: Path, text: str) -> None:
    (tmp_path / "a-1.c-1.1.json").write_text(text)
    (tmp_path / "notes.json").write_text(text)
    made(tmp_path, about("c-2"))

    async def main() -> None:
        assert [each.about.call_sid for each in await Recordings(tmp_path, days=1, megabytes=1).known()] == ["c-2"]
        assert await Recordings(tmp_path / "none", days=1, megabytes=1).known() == []

    virtual_time.run(main())


# How long they are kept ----------------------------------------------------------------------------------


def aged(folder: Path, call_sid: str, days: float, seconds: float = 1.0) -> None:
    made(folder, about(call_sid), seconds)
    for path in folder.glob(f"*.{call_sid}.*"):
        then = path.stat().st_mtime - days * store.DAY
        os.utime(path, (then, then))


def swept(folder: Path, days: int = 30, megabytes: int = 1000) -> list[str]:
    """The ids of the calls whose recordings are left once the server has started."""

    async def main() -> list[str]:
        recordings = Recordings(folder, days=days, megabytes=megabytes)
        recordings.open()
        await recordings.aclose()
        return sorted(each.about.call_sid for each in await recordings.known())

    return virtual_time.run(main())


def test_what_is_too_old_goes_and_other_peoples_files_stay(tmp_path: Path) -> None:
    aged(tmp_path, "old", 31)
    aged(tmp_path, "young", 29)
    foreign = tmp_path / "notes.wav"
    foreign.touch()
    os.utime(foreign, (0, 0))
    assert swept(tmp_path) == ["young"]
    assert len(names(tmp_path)) == 4 and foreign.exists()


def test_beyond_the_size_the_oldest_go(tmp_path: Path) -> None:
    for age in (4, 3, 2, 1):
        aged(tmp_path, f"c-{age}", age, seconds=12.0)  # 384 kB
    assert swept(tmp_path, megabytes=1) == ["c-1", "c-2"]


def test_one_that_is_being_written_is_never_swept_away(tmp_path: Path) -> None:
    aged(tmp_path, "old", 1, seconds=12.0)
    made(tmp_path, about("now"), 60.0, is_whole=False)
    assert swept(tmp_path, megabytes=1) == ["now"]


def test_what_a_killed_process_left_halfway_goes_as_well(tmp_path: Path) -> None:
    aged(tmp_path, "old", 31)
    (tmp_path / "a-1.old.1700000000500.json").unlink()
    assert swept(tmp_path) == [] and names(tmp_path) == []


def test_without_anything_recorded_there_is_no_folder(tmp_path: Path) -> None:
    assert swept(tmp_path / "recordings") == []
    assert names(tmp_path) == []


async def put(recordings: Recordings, size: int) -> None:
    done = recordings.put(lambda: None, size)
    assert done is not None
    await done


def test_the_old_ones_go_every_hour_and_whenever_much_was_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweeps: list[float] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        recordings = Recordings(tmp_path, days=1, megabytes=1)
        monkeypatch.setattr(recordings, "_sweep", lambda: sweeps.append(loop.time()))
        recordings.open()
        for _ in range(9):
            await asyncio.sleep(1000)
            await put(recordings, 10)
        for _ in range(9):
            await put(recordings, 10_000)
        await recordings.aclose()

    virtual_time.run(main())
    assert sweeps == [0, 4000, 8000, 9000]


def test_a_folder_that_cannot_be_read_is_told_and_stops_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()

    async def main() -> None:
        recordings = Recordings(tmp_path / "file", days=1, megabytes=1)
        recordings.open()
        await recordings.aclose()

    virtual_time.run(main())
    assert caplog.messages == ["old recordings cannot be removed"]


# The configuration ---------------------------------------------------------------------------------------


def test_where_they_lie(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    assert Server().recordings.folder() == Path("/home/ada/.local/state/agentd/recordings")
    monkeypatch.setenv("XDG_STATE_HOME", "/var/state")
    assert Server().recordings.folder() == Path("/var/state/agentd/recordings")
    given = Server.model_validate({"recordings": {"path": "~/kept", "days": 2, "megabytes": 5}}).recordings
    assert (given.folder(), given.days, given.megabytes) == (Path("/home/ada/kept"), 2, 5)
    assert (Server().recordings.days, Server().recordings.megabytes) == (30, 1000)


def test_a_user_without_a_home_is_told_what_to_set_where_an_agent_is_to_be_recorded(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    assert recordings_of(Server(), is_wanted=False) is None and caplog.messages == []
    config = Config(Server(), {"desk": Agent(record=True)})
    assert Node(config).recordings is None
    assert [(record.name, record.__dict__["why"]) for record in caplog.records] == [
        ("agentd.recordings", "expected recordings.path, or a user with a home")
    ]
    assert list(missing(config, Shared())) == [
        "agent desk: record: expected recordings.path in agentd.yaml, or a user with a home, got neither"
    ]


# REST ----------------------------------------------------------------------------------------------------


def run(main: Coroutine[Any, Any, T]) -> T:
    """In real time: files are sent from threads that the virtual clock does not see."""

    async def in_time() -> T:
        async with asyncio.timeout(20):
            return await main

    return asyncio.run(in_time())


def client(folder: Path, *, headers: Mapping[str, str] = {}, **server: Any) -> httpx.AsyncClient:
    house = House(agent(), recordings={"path": str(folder)}, **server)
    transport = httpx.ASGITransport(house.app)
    return httpx.AsyncClient(transport=transport, base_url="http://localhost", headers=headers)


def test_recordings_are_listed_the_newest_first_and_by_id(tmp_path: Path) -> None:
    made(tmp_path, about("c-1", since=1_700_000_000.0), 2.0)
    made(tmp_path, about("c-2", since=1_700_000_009.0), 0.5, is_whole=False)

    async def main() -> None:
        async with client(tmp_path) as outside:
            first, second = (await outside.get("/v1/recordings")).json()
            assert (first["call_sid"], first["seconds"], first["is_whole"]) == ("c-2", 0.5, False)
            assert second == {
                "call_sid": "c-1",
                "account_sid": "a-1",
                "agent": "demo",
                "since": 1_700_000_000.0,
                "seconds": 2.0,
                "bytes": size(tmp_path, "c-1"),
                "is_whole": True,
            }
            assert (await outside.get("/v1/recordings", params={"call_sid": "c-1"})).json() == [second]
            assert (await outside.get("/v1/recordings", params={"call_sid": "c-3"})).json() == []

    virtual_time.run(main())


def test_sound_and_events_are_sent_as_files_that_a_browser_only_keeps(tmp_path: Path) -> None:
    made(tmp_path, about(), 1.0)
    made(tmp_path, about(), 2.0)  # of the same id, and later

    async def main() -> None:
        async with client(tmp_path) as outside:
            sound = await outside.get("/v1/recordings/c-1.wav")
            assert sound.status_code == 200 and len(sound.content) == 44 + 2 * 8000 * 4
            told = {name: sound.headers[name] for name in ("content-type", "cache-control", "x-content-type-options")}
            assert told == {
                "content-type": "audio/wav",
                "cache-control": "no-store",
                "x-content-type-options": "nosniff",
            }
            assert sound.headers["content-disposition"] == 'attachment; filename="a-1.c-1.1700000000501.wav"'
            part = await outside.get("/v1/recordings/c-1.wav", headers={"range": "bytes=0-3"})
            assert (part.status_code, part.content) == (206, b"RIFF")
            events = await outside.get("/v1/recordings/c-1.jsonl")
            assert events.headers["content-type"] == "application/x-ndjson"
            assert [json.loads(line) for line in events.text.splitlines()] == [{"at": 0.0, "type": "recording"}]

    run(main())


def test_what_is_written_while_it_is_sent_is_not_sent(tmp_path: Path) -> None:
    files = made(tmp_path, about(), 4.0, is_whole=False)
    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)
        if message["type"] == "http.response.start":
            files.sound(4 * 8000, bytes(8 * 8000 * 4))

    async def receive() -> dict[str, Any]:
        await asyncio.Event().wait()
        raise AssertionError

    async def main() -> None:
        house = House(agent(), recordings={"path": str(tmp_path)})
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "method": "GET",
            "path": "/v1/recordings/c-1.wav",
            "query_string": b"",
            "headers": [(b"host", b"localhost")],
            "client": ("127.0.0.1", 1),
        }
        await house.app(scope, receive, send)  # type: ignore[arg-type]

    run(main())
    said = dict(sent[0]["headers"])[b"content-length"]
    assert sum(len(message["body"]) for message in sent[1:]) == int(said) == 44 + 4 * 8000 * 4
    assert [message["more_body"] for message in sent[1:]][-1] is False


def test_all_of_a_call_is_forgotten_at_once(tmp_path: Path) -> None:
    for call_sid in ("c-1", "c-1", "c-2"):
        made(tmp_path, about(call_sid))

    async def main() -> None:
        async with client(tmp_path) as outside:
            assert (await outside.delete("/v1/recordings/c-1")).status_code == 204
            assert (await outside.delete("/v1/recordings/c-1")).status_code == 404
            assert [each["call_sid"] for each in (await outside.get("/v1/recordings")).json()] == ["c-2"]
        assert len(names(tmp_path)) == 3

    virtual_time.run(main())


@pytest.mark.parametrize("path", ["c-1.wav", "c-1.jsonl", "..%2f..%2fetc.wav", "*.wav", "a-1.c-1.1700000000500.json"])
def test_what_is_not_there_is_told_as_the_rest_of_rest_tells_it(tmp_path: Path, path: str) -> None:
    made(tmp_path, about("c-2"))

    async def main() -> None:
        async with client(tmp_path) as outside:
            answer = await outside.get(f"/v1/recordings/{path}")
            assert answer.status_code in (404, 405) and set(answer.json()) == {"msg"}

    virtual_time.run(main())


def test_a_key_gets_recordings_of_its_agents_and_accounts_and_others_do_not_exist_for_it(tmp_path: Path) -> None:
    made(tmp_path, about("c-1", "a-1", "demo"))
    made(tmp_path, about("c-2", "a-2", "demo"))
    made(tmp_path, about("c-3", "a-1", "other"))
    keys = [{"key": "all"}, {"key": "some", "agents": ["demo"], "accounts": ["a-1"]}]

    async def main() -> None:
        for key, covered in (("all", ["c-1", "c-2", "c-3"]), ("some", ["c-1"])):
            outside = client(tmp_path, headers={"authorization": f"Bearer {key}"}, access={"keys": keys})
            async with outside:
                listed = [each["call_sid"] for each in (await outside.get("/v1/recordings")).json()]
                assert sorted(listed) == covered
                for call_sid in ("c-1", "c-2", "c-3"):
                    for suffix in (".wav", ".jsonl"):
                        answer = await outside.get(f"/v1/recordings/{call_sid}{suffix}")
                        assert answer.status_code == (200 if call_sid in covered else 404)
                if key == "some":
                    assert (await outside.delete("/v1/recordings/c-2")).status_code == 404
        async with client(tmp_path, access={"keys": keys}) as nobody:
            assert (await nobody.get("/v1/recordings")).status_code == 401
        assert len(names(tmp_path)) == 9

    run(main())


def test_a_page_that_looks_on_gets_only_the_call_whose_secret_it_brings(tmp_path: Path) -> None:
    made(tmp_path, about("c-1", proof=proof_of({"callSecret": SECRET})))
    made(tmp_path, about("c-2", proof=proof_of({"callSecret": SECRET[::-1]})))
    made(tmp_path, about("c-3"))
    page = {"sec-fetch-site": "same-origin"}

    async def main() -> None:
        async with client(tmp_path, headers=page) as outside:
            assert (await outside.get("/v1/recordings")).json() == []
            for secret in ("", "None", "another secret of a call"):
                answer = await outside.get("/v1/recordings", headers={"call-secret": secret})
                assert answer.json() == []
            own = {"call-secret": SECRET}
            listed = (await outside.get("/v1/recordings", headers=own)).json()
            assert [each["call_sid"] for each in listed] == ["c-1"] and "proof" not in listed[0]
            assert (await outside.get("/v1/recordings/c-1.wav", headers=own)).status_code == 200
            assert (await outside.get("/v1/recordings/c-2.wav", headers=own)).status_code == 404
            assert (await outside.delete("/v1/recordings/c-3", headers=own)).status_code == 404
            assert (await outside.delete("/v1/recordings/c-1", headers=own)).status_code == 204
        assert len(names(tmp_path)) == 6

    run(main())
