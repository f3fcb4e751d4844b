"""The worker's side: one engine, one pipe in, one pipe out. Ends when its standard input ends.

A thread reads the pipe, so that a caller's audio is never held up by a decoder and a CLOSE is seen in the middle of
a synthesis; everything else runs on the main thread.
"""

import importlib
import json
import os
import queue
import signal
import sys
import threading
from collections.abc import Callable
from typing import BinaryIO, Protocol

from providers.speech.frames import HEADER, Frame, Kind

ENGINES = {"stt": "providers.speech.recogniser", "tts": "providers.speech.synthesizer"}

Send = Callable[[Frame], None]


class Engine(Protocol):
    """Made by ``make_engine(send, inbox)`` of a module in :data:`ENGINES`; ``ImportError`` when not installed."""

    def handle(self, frame: Frame) -> None: ...

    def has_work(self) -> bool:
        """Is there something that :meth:`step` can do before the next frame comes?"""
        ...

    def step(self) -> None:
        """Do a little of it: some 100 ms of one caller's audio."""
        ...


class Inbox:
    """Frames from the server, in order. ``closed`` runs ahead of them: streams whose CLOSE has been read already.

    Not bounded here: a recogniser's stream bounds its own audio, a synthesizer gets one piece at a time.
    """

    def __init__(self) -> None:
        self.closed: set[int] = set()
        self.is_over = False
        self._frames: queue.SimpleQueue[Frame | None] = queue.SimpleQueue()

    def read(self, pipe: BinaryIO) -> None:
        while len(header := pipe.read(HEADER.size)) == HEADER.size:
            length, kind, stream = HEADER.unpack(header)
            frame = Frame(Kind(kind), stream, pipe.read(length))
            if frame.kind is Kind.CLOSE:
                self.closed.add(stream)
            self._frames.put(frame)
        self.is_over = True
        self._frames.put(None)

    def get(self, wait: bool) -> Frame | None:
        """The next frame, or ``None``: there is none yet, or (see ``is_over``) there will be none."""
        try:
            return self._frames.get(block=wait)
        except queue.Empty:
            return None


def main(role: str) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the server says when to end
    # A library that prints would break the frames: what it prints goes to standard error instead.
    out = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)

    def send(frame: Frame) -> None:
        view = memoryview(frame.pack())
        while view:
            view = view[out.write(view) :]

    inbox = Inbox()
    threading.Thread(target=inbox.read, args=(sys.stdin.buffer,), daemon=True).start()
    try:
        engine: Engine = importlib.import_module(ENGINES[role]).make_engine(send, inbox)
        send(Frame(Kind.READY, 0))
        run(engine, inbox)
    except ImportError as exc:
        send(failed(0, f"{role}-not-installed", f"{exc}; pip install 'agentd[local]'"))
    except BrokenPipeError:
        pass  # the server is gone
    sys.stderr.flush()
    if not inbox.is_over:  # the thread still holds the lock of stdin, which interpreter shutdown would trip over
        os._exit(0)


def run(engine: Engine, inbox: Inbox) -> None:
    while not inbox.is_over:
        frame = inbox.get(wait=not engine.has_work())
        if frame is None:
            engine.step()
        else:
            engine.handle(frame)
            if frame.kind is Kind.CLOSE:
                inbox.closed.discard(frame.stream)


def failed(stream: int, code: str, message: str) -> Frame:
    return Frame(Kind.FAILED, stream, json.dumps({"code": code, "message": message}).encode())
