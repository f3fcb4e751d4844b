"""The one thread on which the models of all calls run, and the queue before it.

Bounded: at 45 ms a judgement, a question behind eight others would be answered later than silence alone decides.
A call waits in one place only: its newer question takes the place of the one that still waits, and both get the
newer answer.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from providers.base import ProviderError

LIMIT = 8  # calls that wait


class _Question:
    def __init__(self, job: Callable[[], float]) -> None:
        self.job = job
        self.askers = 0
        self.answer: asyncio.Future[float] = asyncio.get_running_loop().create_future()


class Worker:
    def __init__(self, name: str, limit: int = LIMIT) -> None:
        self._name = name
        self._limit = limit
        self._pool = ThreadPoolExecutor(1, "agentd-acoustic")
        self._waiting: OrderedDict[object, _Question] = OrderedDict()  # by call, oldest first
        self._is_busy = False

    async def ask(self, call: object, job: Callable[[], float]) -> float:
        """Run ``job`` on the thread. Raises what it raises, and ``ProviderError`` ``eot-model-busy`` when too many
        calls wait.
        """
        if question := self._waiting.get(call):
            question.job = job
        elif len(self._waiting) >= self._limit:
            message = f"expected at most {self._limit} calls to wait for a judgement, got one more"
            raise ProviderError(self._name, "eot-model-busy", message, retryable=True)
        else:
            question = self._waiting[call] = _Question(job)
        question.askers += 1
        self._next()
        try:
            return await asyncio.shield(question.answer)
        finally:
            question.askers -= 1
            if not question.askers and self._waiting.get(call) is question:
                del self._waiting[call]

    async def run(self, job: Callable[[], object]) -> None:
        """Beside the queue, for what is done once: loading a model."""
        await asyncio.get_running_loop().run_in_executor(self._pool, job)

    async def aclose(self) -> None:
        while self._waiting:
            _, question = self._waiting.popitem()
            question.answer.set_exception(ProviderError(self._name, "eot-model-closed", "the server ends"))
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _next(self) -> None:
        if self._is_busy or not self._waiting:
            return
        _, question = self._waiting.popitem(last=False)
        self._is_busy = True
        running = asyncio.get_running_loop().run_in_executor(self._pool, question.job)
        running.add_done_callback(partial(self._answered, question))

    def _answered(self, question: _Question, running: asyncio.Future[float]) -> None:
        self._is_busy = False
        if running.cancelled():
            question.answer.cancel()
        elif error := running.exception():
            if question.askers:  # otherwise nobody would ever see it
                question.answer.set_exception(error)
        else:
            question.answer.set_result(running.result())
        self._next()
