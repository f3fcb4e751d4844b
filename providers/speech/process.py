"""The server's side of a speech worker: starts the process, deals its frames out to streams, starts it again.

::

    (none) ──open / warm──> starting ──READY──> running ──its pipe ends──> (none): every stream gets "…-worker-died"
                               └──FAILED 0 (not installed)──────────────────> (none): every stream gets that
"""

import asyncio
import json
import logging
import sys
from collections.abc import Mapping
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any, Literal

import providers
from providers.base import ProviderError
from providers.speech.frames import HEADER, Frame, Kind

log = logging.getLogger("agentd.providers")

PACKAGES = str(Path(providers.__file__).resolve().parent.parent)  # the repository, or site-packages/agentd/_packages
CODE = "import sys; sys.path.insert(0, sys.argv[1]); from providers.speech.worker import main; main(sys.argv[2])"
ENDING_SECONDS = 2.0  # from the end of its standard input to a kill
LAST_WORDS = 2000  # bytes of standard error that a crash leaves in our log


class Stream:
    """One ``listen()`` or ``speak()`` at the worker. Close it."""

    def __init__(self, number: int, process: "SpeechProcess", pipe: asyncio.StreamWriter) -> None:
        self.number = number
        self._process = process
        self._pipe = pipe
        # Not bounded here: a recogniser answers with short texts, a synthesizer is given one piece at a time.
        self._frames: asyncio.Queue[Frame | ProviderError] = asyncio.Queue()

    def send(self, kind: Kind, payload: bytes = b"") -> None:
        """Never waits and never fails: when the worker has died, :meth:`receive` says so."""
        if not self._pipe.is_closing():
            self._pipe.write(Frame(kind, self.number, payload).pack())

    def send_json(self, kind: Kind, payload: Mapping[str, Any]) -> None:
        self.send(kind, json.dumps(payload).encode())

    async def flow(self) -> None:
        """Wait while the worker is behind and the pipe is full."""
        with suppress(ConnectionError):  # the worker has died: receive() says so
            await self._pipe.drain()

    async def receive(self) -> Frame:
        """The worker's next frame for this stream. Raises :class:`ProviderError`."""
        item = await self._frames.get()
        if isinstance(item, ProviderError):
            raise item
        return item

    def close(self) -> None:
        """The worker stops what it does for this stream; frames that are on their way are dropped."""
        self._process.forget(self)
        self.send(Kind.CLOSE)

    def deliver(self, item: Frame | ProviderError) -> None:
        self._frames.put_nowait(item)


class SpeechProcess:
    """A worker for one role. It starts when first used and again after it died."""

    def __init__(self, role: Literal["stt", "tts"]) -> None:
        self.role = role
        self.process: asyncio.subprocess.Process | None = None
        self._lives: set[asyncio.Task[None]] = set()  # two for a moment: one is being reaped, the next one starts
        self._ready: asyncio.Future[asyncio.StreamWriter] | None = None
        self._streams: dict[int, Stream] = {}
        self._numbers = count(1)
        self._is_closed = False

    async def warm(self) -> None:
        """Start the process and wait for its engine. Raises :class:`ProviderError`."""
        await self._pipe()

    async def open(self) -> Stream:
        """A new stream; the process is started if need be. Raises :class:`ProviderError`."""
        pipe = await self._pipe()
        stream = Stream(next(self._numbers), self, pipe)
        self._streams[stream.number] = stream
        return stream

    def forget(self, stream: Stream) -> None:
        self._streams.pop(stream.number, None)

    async def aclose(self) -> None:
        self._is_closed = True
        if self.process is not None and self.process.stdin is not None:
            self.process.stdin.close()  # it ends by itself, and removes its temporary files
        if self._lives and (late := (await asyncio.wait(self._lives, timeout=ENDING_SECONDS))[1]):
            for life in late:
                life.cancel()
            await asyncio.wait(late)

    async def _pipe(self) -> asyncio.StreamWriter:
        if self._is_closed:
            raise self._error("closed", "the speech worker is closed", retryable=False)
        if self._ready is None:
            self._ready = asyncio.get_running_loop().create_future()
            life = asyncio.create_task(self._live(self._ready), name=f"speech worker {self.role}")
            self._lives.add(life)
            life.add_done_callback(self._lives.discard)
        # Shielded: one caller that hangs up must not end the start that others wait for.
        return await asyncio.shield(self._ready)

    async def _live(self, ready: "asyncio.Future[asyncio.StreamWriter]") -> None:
        """One life of the process, from start to its last word. Never raises."""
        error = self._error("worker-died", "the speech worker died", retryable=True)
        try:
            pipe = asyncio.subprocess.PIPE
            self.process = process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-c", CODE, PACKAGES, self.role), stdin=pipe, stdout=pipe, stderr=pipe
            )
        except OSError as exc:
            self._fail(ready, self._error("worker-not-started", str(exc), retryable=False))
            return
        assert process.stdin and process.stdout and process.stderr
        if self._is_closed:  # meanwhile
            process.stdin.close()
        last_words = asyncio.create_task(tail(process.stderr))
        try:
            error = await self._read(process.stdin, process.stdout, ready) or error
        finally:
            # However it ended, also when this task was cancelled: no zombie and no open pipe stays behind.
            self.process = None
            if self._is_closed:
                error = self._error("closed", "the speech worker is closed", retryable=False)
            self._fail(ready, error)
            process.stdin.close()
            try:
                # Not killed at once: kill() reaps a process that has just ended, and asyncio then misses its exit.
                await asyncio.wait_for(process.wait(), ENDING_SECONDS)
            except TimeoutError:
                process.kill()
                await process.wait()
            said = await last_words
            if not self._is_closed:  # else it was told to end
                extra = {"role": self.role, "code": error.code, "exit": process.returncode, "stderr": said}
                log.warning("speech worker ended", extra=extra)

    async def _read(
        self, stdin: asyncio.StreamWriter, stdout: asyncio.StreamReader, ready: "asyncio.Future[asyncio.StreamWriter]"
    ) -> ProviderError | None:
        """Deal frames out until the pipe ends. Returns the error that the worker gave for itself, if any."""
        while True:
            try:
                length, number, stream = HEADER.unpack(await stdout.readexactly(HEADER.size))
                frame = Frame(Kind(number), stream, await stdout.readexactly(length))
            except (asyncio.IncompleteReadError, ConnectionError):
                return None
            if frame.kind is Kind.READY:
                if not ready.done():
                    ready.set_result(stdin)
                continue
            item: Frame | ProviderError = frame
            if frame.kind is Kind.FAILED:
                item = ProviderError("local", retryable=False, **json.loads(frame.payload))
                if stream == 0:
                    return item
            if stream in self._streams:  # else: closed meanwhile, and these are its last frames
                self._streams[stream].deliver(item)

    def _fail(self, ready: "asyncio.Future[asyncio.StreamWriter]", error: ProviderError) -> None:
        self._ready = None
        if not ready.done():
            ready.set_exception(error)
            ready.exception()  # seen: whoever waited may have been cancelled
        while self._streams:
            self._streams.popitem()[1].deliver(
                ProviderError("local", error.code, error.message, retryable=error.retryable)
            )

    def _error(self, code: str, message: str, *, retryable: bool) -> ProviderError:
        return ProviderError("local", f"{self.role}-{code}", message, retryable=retryable)


async def tail(pipe: asyncio.StreamReader) -> str:
    """Everything that it says, of which the end is kept."""
    kept = b""
    while chunk := await pipe.read(4096):
        kept = (kept + chunk)[-LAST_WORDS:]
    return kept.decode(errors="replace").strip()
