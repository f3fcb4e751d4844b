"""The simulated vendors of a run, each on a free port of this machine, in the process that calls."""

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from agentd.errors import AgentdError
from agentd.loadtest.lateness import Lateness
from agentd.loadtest.simulated import Delays, cartesia, deepgram, openai
from agentd.loadtest.simulated.clock import Clock

AGENT = "simulated"  # the name of the agent that is configured with them


class Vendors:
    """Use it as a context. ``port``: the first of three; 0 takes free ones. ``late``: how late their answers were."""

    def __init__(self, delays: Delays, port: int = 0) -> None:
        self.delays = delays
        self._port = port
        self.urls: dict[str, str] = {}
        self._servers: list[asyncio.Server] = []
        self._clock: Clock

    @property
    def late(self) -> Lateness:
        return self._clock.late

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._clock = clock = Clock()
        made: dict[str, tuple[str, Callable[[], asyncio.BaseProtocol]]] = {
            "stt": ("ws", lambda: deepgram.Recogniser(self.delays, clock)),
            "llm": ("http", lambda: openai.Model(self.delays, clock)),
            "tts": ("ws", lambda: cartesia.Voice(self.delays, clock)),
        }
        for number, (role, (scheme, make)) in enumerate(made.items()):
            port = self._port + number if self._port else 0
            try:
                server = await loop.create_server(make, "127.0.0.1", port)
            except OSError as exc:
                raise AgentdError(f"expected port {port} to be free for a simulated vendor: {exc.strerror}") from exc
            self._servers.append(server)
            self.urls[role] = f"{scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, kind: type | None, exc: BaseException | None, trace: TracebackType | None) -> None:
        for server in self._servers:
            server.close()

    def credentials(self) -> dict[str, Any]:
        """Of an `agentd.yaml` whose server asks these vendors."""
        return {
            "deepgram": {"apiKey": "simulated", "url": self.urls["stt"]},
            "openai": {"apiKey": "simulated", "baseURL": f"{self.urls['llm']}/v1"},
            "cartesia": {"apiKey": "simulated", "url": self.urls["tts"]},
        }

    def server_file(self, port: int) -> dict[str, Any]:
        """An `agentd.yaml` for a server on ``port`` of this machine."""
        process = {"host": "127.0.0.1", "port": port}
        return {"server": process, "credentials": self.credentials(), "speech_cache": False}


def agent_file(*, greeting: bool = True) -> dict[str, Any]:
    """The agent: what a call can have without an application is on."""
    return {
        "stt": {"vendor": "deepgram", "language": "en-US"},
        "llm": {
            "vendor": "openai",
            "model": "simulated",
            "llmOptions": {"systemPrompt": "You answer the phone of a small hotel. Be brief."},
        },
        "tts": {"vendor": "cartesia", "voice": "simulated"},
        "greeting": "Hello, how can I help you?" if greeting else False,
        "earlyGeneration": True,
        "bargeIn": {"enable": True, "minSpeechDuration": 0.5},
    }
