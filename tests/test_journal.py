"""Journals of calls: what is written, where it lies, and what happens when it cannot be written."""

import asyncio
import errno
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from agentd.call.history import NOT_YET, History, Round
from agentd.call.records import message_of, message_record
from agentd.call.resume import LOST, Left, replayed
from agentd.ops import journal
from agentd.ops.journal import Change, Journals, StoreFailed, journals_of, key_of, records
from agentd.ops.journal_files import OLD, Files
from config.server import Server
from providers.base import Message, Native, Tool, ToolCall
from tests import virtual_time

CALL, OTHER = ToolCall("a", "look", "{}", Native("google", {"thoughtSignature": "x"})), ToolCall("b", "listen", "{}")


class Broken:
    """A store that fails as long as it has ``why``, and keeps what it is given in a dict."""

    def __init__(self, why: str = "") -> None:
        self.why = why
        self.kept: dict[str, bytes] = {}
        self.writes = 0

    async def write(self, changes: Mapping[str, Change]) -> None:
        self.writes += 1
        await asyncio.sleep(0)
        if self.why:
            raise StoreFailed(self.why, changes)
        for key, change in changes.items():
            self.kept[key] = (b"" if change.is_removed else self.kept.get(key, b"")) + change.lines

    async def read(self, key: str) -> bytes:
        return self.kept.get(key, b"")

    async def sweep(self) -> None: ...

    async def aclose(self) -> None: ...


# Writing ---------------------------------------------------------------------------------------------------


def test_what_was_written_can_be_read_by_another_process_until_it_is_removed(tmp_path: Path) -> None:
    async def main() -> None:
        ours, theirs = Journals(Files(tmp_path / "calls")), Journals(Files(tmp_path / "calls"))
        kept = ours.of("desk", "c-1")
        for number in range(3):
            kept.write({"kind": "x", "number": number, "half": "\ud83d"})
        ours.of("desk", "c-2").write({"kind": "other"})
        await ours.written()
        assert [record["number"] for record in await theirs.read("desk", "c-1")] == [0, 1, 2]
        theirs.of("desk", "c-1").write({"kind": "x", "number": 3})
        await theirs.written()
        assert len(await ours.read("desk", "c-1")) == 4
        kept.remove()
        kept.write({"kind": "too late"})
        assert await ours.read("desk", "c-1") == []
        assert await ours.read("desk", "c-2") == [{"kind": "other"}]
        for each in (ours, theirs):
            await each.aclose()

    virtual_time.run(main())


def test_what_comes_at_once_is_written_at_once() -> None:
    async def main() -> None:
        store = Broken()
        journals = Journals(store)
        kept = [journals.of(str(number)) for number in range(50)]
        for number in range(500):
            kept[number % 50].write({"number": number})
        await journals.written()
        assert (store.writes, len(store.kept)) == (1, 50)
        assert [record["number"] for record in await journals.read("7")] == list(range(7, 500, 50))

    virtual_time.run(main())


def test_the_last_record_of_a_killed_process_may_be_half_a_line() -> None:
    assert records(b'{"a":1}\n{"b":2}\n{"c"') == [{"a": 1}, {"b": 2}]
    assert records(b"") == []
    with pytest.raises(ValueError):
        records(b'{"a":1}\n{"b"\n{"c":3}\n')
    with pytest.raises(ValueError):
        records(b"[]\n")


def test_a_key_tells_nothing_and_two_names_are_not_one() -> None:
    assert key_of(["desk", "../../etc"]).isalnum()
    assert key_of(["a", "b"]) != key_of(["ab"])


# What cannot be written ------------------------------------------------------------------------------------


def test_a_store_that_is_away_is_told_once_and_gets_everything_when_it_is_back(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        store = Broken("No space left on device")
        journals = Journals(store)
        first, second = journals.of("1"), journals.of("2")
        for number in range(5):
            first.write({"number": number})
            await asyncio.sleep(1)
        second.write({"number": 5})
        second.remove()
        store.why = ""
        await journals.written()
        assert [record["number"] for record in await journals.read("1")] == list(range(5))
        assert await journals.read("2") == []
        assert [record.levelname for record in caplog.records if record.name == "agentd.journal"] == ["ERROR"]

    caplog.set_level("ERROR", "agentd.journal")
    virtual_time.run(main())


def test_what_waits_has_a_bound_and_a_journal_that_is_too_much_is_given_up(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "WAITING", 1000)

    async def main() -> None:
        store = Broken("away")
        journals = Journals(store)
        first, second = journals.of("1"), journals.of("2")
        first.write({"text": "x" * 600})
        for _ in range(10):
            second.write({"text": "x" * 600})
        assert caplog.messages == ["journal given up: this call would end with its worker"]
        store.why = ""
        await asyncio.sleep(2)
        await journals.written()
        assert (len(await journals.read("1")), await journals.read("2")) == (1, [])

    caplog.set_level("WARNING", "agentd.journal")
    virtual_time.run(main())


def test_a_record_that_is_no_json_gives_up_its_journal_and_not_its_call(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        journals = Journals(Broken())
        kept = journals.of("1")
        kept.write({"kind": "x"})
        kept.write({"kind": b"bytes"})
        kept.write({"kind": "x"})
        await journals.written()
        assert await journals.read("1") == []
        assert caplog.messages == ["journal given up: this call would end with its worker"]

    virtual_time.run(main())


def test_of_what_a_full_disk_takes_only_half_nothing_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        files = Files(tmp_path)
        await files.write({"a": Change(b"1\n")})
        write, calls = os.write, 0

        def half(descriptor: int, data: Any) -> int:
            nonlocal calls
            calls += 1
            if calls == 1:
                return write(descriptor, data[:1])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        with monkeypatch.context() as patched:
            patched.setattr(os, "write", half)
            with pytest.raises(StoreFailed, match="No space left on device") as failed:
                await files.write({"a": Change(b"22\n")})
        assert failed.value.keys == {"a"}
        assert await files.read("a") == b"1\n"
        await files.aclose()

    virtual_time.run(main())


def test_a_folder_that_cannot_be_made_fails_for_every_journal(tmp_path: Path) -> None:
    async def main() -> None:
        (tmp_path / "file").write_text("")
        files = Files(tmp_path / "file" / "calls")
        with pytest.raises(StoreFailed) as failed:
            await files.write({"a": Change(b"1\n"), "b": Change(b"2\n")})
        assert failed.value.keys == {"a", "b"}
        assert str(tmp_path) not in str(failed.value)
        await files.aclose()

    virtual_time.run(main())


def test_what_was_left_behind_a_day_ago_is_removed(tmp_path: Path) -> None:
    async def main() -> None:
        files = Files(tmp_path)
        await files.write({"old": Change(b"1\n"), "new": Change(b"2\n")})
        for name in ("old.jsonl", "new.jsonl"):
            age = OLD + 60 if name == "old.jsonl" else OLD - 60
            now = (tmp_path / name).stat().st_mtime
            os.utime(tmp_path / name, (now - age, now - age))
        (tmp_path / "not ours").write_text("")
        os.utime(tmp_path / "not ours", (0, 0))
        await Journals(files).aclose()
        journals = Journals(Files(tmp_path))
        journals.of("x")
        await journals.aclose()

    virtual_time.run(main())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new.jsonl", "not ours"]


# In Redis --------------------------------------------------------------------------------------------------


def test_nodes_share_journals_by_redis_which_may_be_away_for_a_while() -> None:
    from tests import programs

    async def main() -> None:
        async with programs.redis() as server:
            from agentd.ops.journal_redis import EXPIRES, RedisStore

            ours, theirs = Journals(RedisStore(server.url)), Journals(RedisStore(server.url))
            kept = ours.of("desk", "c-1")
            kept.write({"number": 0})
            await ours.written()
            assert await theirs.read("desk", "c-1") == [{"number": 0}]
            async with Redis.from_url(server.url) as client:
                assert 0 < await client.ttl(f"{{agentd}}:journal:{key_of(['desk', 'c-1'])}") <= EXPIRES
            await server.stop()
            kept.write({"number": 1})
            assert await theirs.read("desk", "c-1") == []
            await server.start()
            async with asyncio.timeout(20):
                await ours.written()
            assert await theirs.read("desk", "c-1") == [{"number": 1}]  # it has forgotten what was before
            kept.remove()
            await ours.written()
            assert await theirs.read("desk", "c-1") == []
            for each in (ours, theirs):
                await each.aclose()

    asyncio.run(main())


# Where they lie --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "is_worker", "is_kept"),
    [
        ({}, False, False),
        ({}, True, True),
        ({"journal": False}, True, False),
        ({"journal": True}, False, True),
        ({"journal": {"path": "/x"}}, False, True),
        ({"journal": {"path": "/x", "enable": False}}, False, False),
        ({"apps": {}}, True, False),
    ],
)
def test_calls_are_written_down_where_another_worker_could_go_on_with_them(
    given: dict[str, Any], is_worker: bool, is_kept: bool
) -> None:
    server = Server.model_validate({"apps": {"desk": "ws://127.0.0.1:1/"}, **given})
    assert (journals_of(server, {"AGENTD_WORKER": "w1"} if is_worker else {}) is not None) == is_kept


def test_the_folder_is_the_users_own_for_state(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Server.model_validate({"journal": True}).journal.folder
    monkeypatch.setenv("XDG_STATE_HOME", "/state")
    assert folder() == Path("/state/agentd/calls")
    monkeypatch.setenv("XDG_STATE_HOME", "not absolute")
    monkeypatch.setenv("HOME", "/home/agentd")
    assert folder() == Path("/home/agentd/.local/state/agentd/calls")


# Conversations ---------------------------------------------------------------------------------------------


def told() -> tuple[History, list[Any]]:
    history = History("Be kind.", (Message("user", "before"),))
    written: list[Any] = []
    history.tell = written.append
    return history, written


def test_a_conversation_that_is_replayed_is_the_same() -> None:
    history, written = told()
    history.asked(1, "hello")
    history.tools_called([CALL, OTHER])
    history.result_came("b", "2")
    history.answered("One moment. It is red.")
    history.commit("hello", "One moment. It is red.", [Round(12, (CALL, OTHER), {"b": "2"})])
    history.result_came("a", "late")
    history.remark("mhm")
    history.inject([Message("system", "Gold tier.", native=Native("openai", {"role": "system", "x": [1]}))])
    history.commit("and?", "Yes.", [])
    history.system = "Be brief."
    history.summarized(5, "They said hello.")
    history.offered([Tool("buy", "Buy.", {"type": "object"})])
    history.commit("so?", "So.", [])

    again = History("Be kind.", (Message("user", "before"),))
    left = replayed(json.loads(json.dumps(written)), again)
    assert again.prompt("", [], "") == history.prompt("", [], "")
    assert (again.turns, again.older(2), again.summary) == (history.turns, history.older(2), history.summary)
    assert left == Left(turn=1, tools=(Tool("buy", "Buy.", {"type": "object"}),))


def test_of_a_turn_that_was_not_over_the_words_and_the_tools_stay() -> None:
    history, written = told()
    history.asked(1, "look")
    history.tools_called([CALL, OTHER])
    history.result_came("a", "red")
    history.asked(1, "look and listen")  # they added words: the tools that ran stay run
    again, more = told()
    left = replayed(json.loads(json.dumps(written)), again)
    assert again.messages[1:] == [
        Message("user", "look and listen"),
        Message("assistant", "", tool_calls=(CALL, OTHER)),
        Message("tool", "red", tool_call_id="a"),
        Message("tool", LOST, tool_call_id="b"),
    ]
    assert "answer what the caller said last" in left.cue()
    assert [record["kind"] for record in more] == ["turn"]  # for whoever comes next


def test_a_turn_of_its_own_has_tools_of_its_own() -> None:
    history, written = told()
    history.asked(1, "look")
    history.tools_called([CALL])
    history.commit("look", "", [Round(0, (CALL,), {})])
    history.asked(2, "listen")
    again, _ = told()
    replayed(written, again)
    assert again.messages[-2:] == [Message("tool", NOT_YET, tool_call_id="a"), Message("user", "listen")]


def test_an_agent_that_was_speaking_is_told_what_it_said() -> None:
    history, written = told()
    history.asked(1, "")
    history.answered("Hello there, how are you?")
    assert replayed(written, told()[0]).cue() == (
        "The line was interrupted for a moment. Say so in a few words and go on where you left off. Do not greet the "
        "caller again. You were saying this, of which the caller has heard at most a part: Hello there, how are you?"
    )


@pytest.mark.parametrize(
    "message",
    [
        Message("assistant", "x", (CALL, OTHER)),
        Message("tool", "", tool_call_id="a"),
        Message("user", "", native=Native("openai", {"role": "user", "content": [{"type": "text"}]})),
    ],
)
def test_a_message_stays_what_it_is(message: Message) -> None:
    assert message_of(json.loads(json.dumps(message_record(message)))) == message
