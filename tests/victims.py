"""Calls whose server process is killed, over real sockets: jambonz comes back with each of them, as it does.

    victims = await recovered(20)
    [victim.silence for victim in victims]      # seconds from the kill to the agent's voice, or None

The process is started again at once, on the same port, as a supervisor would; or another one is there already.
"""

import asyncio
import json
import multiprocessing
import os
import signal
import tempfile
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake
from websockets.typing import Subprotocol

from agentd.jambonz.listen import Node
from agentd.loadtest.server import free_port
from agentd.server import Server
from config.files import Config
from config.server import Server as ServerConfig
from tests.application import Application
from tests.jambonz import Call, dial, voice
from tests.whole_call import agent, loud

VERB = {
    "verb": "agent",
    "greeting": {"text": "Hi."},
    "llm": {"llmOptions": {"systemPrompt": "You are brief."}},
    "eventHook": "/event",
    "actionHook": "/done",
}
BEFORE = {"finals": ["My name is Ada."] * 20, "when": {}}
AFTER = {
    "finals": ["What is my name?"] * 20,
    "when": {"The line was interrupted": ["I am back."], "My name is Ada": ["You are Ada."]},
}
BACK = "I am back."
PAUSES = (0.5, 1.0, 2.0, 2.0, 2.0)  # seconds before each of jambonz's attempts
UP_WITHIN = 20.0  # seconds, on a busy machine
GIVE_UP = 20.0  # seconds for the agent to speak again

context = multiprocessing.get_context("forkserver")
context.set_forkserver_preload(["tests.victims", "tests.cluster"])


def serve(pipe: Connection, port: int, server: Mapping[str, Any], script: Mapping[str, Any]) -> None:
    """A server until it is killed."""

    async def main() -> None:
        made = agent(script["finals"], ["Noted."], llm={"when": script["when"]}).given()
        defaults = {role: made[role] for role in ("stt", "llm", "tts")}
        given = {"turn": {"engine": "rule"}, "speech_cache": False, "defaults": defaults, **server}
        node = Node(Config(ServerConfig.model_validate(given), {}), detector_for=lambda rate: loud)
        process = Server(node, "127.0.0.1", port)
        serving = asyncio.create_task(process.serve())
        await process.up()
        pipe.send(process.port)
        await serving

    asyncio.run(main())


class House:
    """Where the processes are."""

    def __init__(self, url: str, folder: str) -> None:
        idle = {"cpu": 1, "loop_lag_ms": 60_000}  # whatever else this machine does
        self.server = {"apps": {"desk": url}, "journal": {"path": f"{folder}/calls"}, "limits": idle}
        self.port = free_port()
        self.process: ForkServerProcess | None = None

    async def start(self, script: Mapping[str, Any]) -> None:
        ours, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(theirs, self.port, self.server, script), daemon=True)
        self.process.start()
        async with asyncio.timeout(UP_WITHIN):
            await asyncio.to_thread(ours.poll, UP_WITHIN)
            ours.recv()

    def kill(self) -> None:
        assert self.process is not None and self.process.pid is not None
        os.kill(self.process.pid, signal.SIGKILL)


class Victim:
    """One call, as jambonz has it. ``silence``: seconds from the kill to the agent's voice."""

    def __init__(self, at: House) -> None:
        self.sid = str(uuid.uuid4())
        self.silence: float | None = None
        self._url = f"ws://127.0.0.1:{at.port}/app/desk"
        self._control: ClientConnection | None = None
        self._stack = AsyncExitStack()

    async def begin(self) -> Call:
        self._control = await self._connect()
        (listen,) = await self._ask("session:new", {"call_sid": self.sid, "from": "+15551230001"})
        self._listen = listen
        self.call = await self._stack.enter_async_context(self._dial())
        await self.call.until(lambda: self.call.is_audible)  # it greets
        return self.call

    async def go_on(self, killed_at: float) -> None:
        """Come back, and listen until the agent speaks."""
        before = self.call
        await before.until(lambda: before.closed)
        await self._stack.aclose()
        for pause in PAUSES:
            await asyncio.sleep(pause)
            try:
                self._control = await self._connect()
                await self._ask("session:reconnect", {"call_sid": self.sid, "from": "+15551230001"})
                (self._listen,) = await self._ask("verb:hook", {"call_sid": self.sid}, self._listen["actionHook"])
            except (OSError, InvalidHandshake, ConnectionClosed):
                continue
            break
        else:
            raise AssertionError("expected to be let in again, was not")
        self.call = await self._stack.enter_async_context(self._dial())
        await self.call.until(lambda: self.call.is_audible, within=GIVE_UP)
        self.silence = asyncio.get_running_loop().time() - killed_at
        await self.call.until(lambda: not self.call.is_audible)

    async def turn(self) -> None:
        """The caller says something, and hears the answer."""
        await self.call.until(lambda: not self.call.is_audible)
        self.call.say(voice(0.4))
        await self.call.until(lambda: self.call.is_audible)
        await self.call.until(lambda: not self.call.is_audible)

    async def end(self) -> None:
        await self._stack.aclose()
        if self._control is not None:
            await self._control.close()

    def _dial(self) -> Call:
        return dial(self._listen["url"], metadata={"callSid": self.sid}, record=False)

    async def _connect(self) -> ClientConnection:
        return await connect(self._url, subprotocols=[Subprotocol("ws.jambonz.org")], compression=None)

    async def _ask(self, type_: str, data: Mapping[str, Any], hook: str | None = None) -> Any:
        assert self._control is not None
        message = {"type": type_, "msgid": str(uuid.uuid4()), "call_sid": self.sid, "data": data}
        await self._control.send(json.dumps(message if hook is None else {**message, "hook": hook}))
        async with asyncio.timeout(5):
            while True:
                found = json.loads(await self._control.recv())
                if found.get("type") == "ack" and found["msgid"] == message["msgid"]:
                    return found.get("data")


@asynccontextmanager
async def house() -> AsyncIterator[tuple[Application, House]]:
    """An application, and a server in front of it."""
    with tempfile.TemporaryDirectory() as folder:
        async with Application([VERB], next_verbs=[{"verb": "hangup"}]) as app:
            at = House(app.url, folder)
            await at.start(BEFORE)
            try:
                yield app, at
            finally:
                at.kill()


def responses(app: Application, sid: str) -> list[str]:
    """What the agent has answered in this call, so far."""
    told = [message for message in app.of("agent:event") if message["call_sid"] == sid]
    return [message["data"]["response"] for message in told if message["data"]["type"] == "llm_response"]


async def recovered(calls: int, apart: float = 0.1) -> tuple[list[Victim], Application]:
    """So many calls that talk, one kill, and what became of them. They began ``apart`` seconds from each other."""
    async with house() as (app, at):
        victims = [Victim(at) for _ in range(calls)]

        async def talk(victim: Victim, after: float) -> None:
            await asyncio.sleep(after)
            await victim.begin()
            await victim.turn()
            victim.call.say(voice(1.0))  # … and is killed in the midst of whatever comes then

        await asyncio.gather(*(talk(victim, number * apart) for number, victim in enumerate(victims)))
        killed_at = asyncio.get_running_loop().time()
        at.kill()
        restarting = asyncio.create_task(at.start(AFTER))
        await asyncio.gather(*(victim.go_on(killed_at) for victim in victims), return_exceptions=True)
        await restarting
        spoke = [victim for victim in victims if victim.silence is not None]
        await asyncio.gather(*(victim.turn() for victim in spoke))
        await asyncio.gather(*(victim.end() for victim in victims))
        return victims, app
