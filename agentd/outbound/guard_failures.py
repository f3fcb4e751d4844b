"""How an outgoing request fails, in our words: those of the libraries may quote a header or an address."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import httpx2
from websockets.exceptions import InvalidHandshake, InvalidURI

from agentd.errors import AgentdError


class Blocked(AgentdError):
    """The address may not be asked. Names the rule and what was found; never user, password or query of the URL."""


class OutgoingFailed(AgentdError):
    """A request without a usable answer. ``may_retry``: it cannot have reached the other side."""

    may_retry = False


class NotConnected(OutgoingFailed):
    """No connection could be opened."""

    may_retry = True


class NoAnswer(OutgoingFailed):
    """The connection broke, or what came over it was no HTTP."""


class TooSlow(OutgoingFailed):
    """The time was over before the whole answer was there."""


class TooLarge(OutgoingFailed):
    """The answer is longer than the limit."""


@contextlib.asynccontextmanager
async def failures(seconds: float) -> AsyncIterator[None]:
    """Everything within ``seconds``, and what goes wrong in our words: those of the libraries may quote a header."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except AgentdError:
        raise
    except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout) as exc:
        if (blocked := _blocked_in(exc)) is not None:
            raise blocked from exc
        raise NotConnected(f"cannot connect ({type(exc).__name__})") from exc
    except (httpx2.TimeoutException, TimeoutError) as exc:
        raise TooSlow(f"expected the whole answer within {seconds:g} s, got less") from exc
    except (InvalidURI, httpx2.InvalidURL) as exc:
        raise NoAnswer("expected a URL, got what is none") from exc
    except InvalidHandshake:
        raise
    except OSError as exc:
        raise NotConnected(f"cannot connect ({type(exc).__name__})") from exc
    except (httpx2.HTTPError, httpx2.StreamError, EOFError, ValueError) as exc:
        raise NoAnswer(f"connection lost before the answer was there ({type(exc).__name__})") from exc


def _blocked_in(exc: BaseException | None) -> Blocked | None:
    """What :meth:`agentd.outbound.guard.Guard.lookup` hid in an ``OSError``. httpcore2 takes causes away."""
    while exc is not None and not isinstance(exc, OSError):
        exc = exc.__cause__ or exc.__context__
    hidden = None if exc is None else exc.__cause__
    return hidden if isinstance(hidden, Blocked) else None
