"""The key of the contract suites may be told to a vendor, and to nobody else.

    from tests.vendors.canary import canary as canary

makes a suite fail in which it stands in a log record of any logger at any level, or in a :class:`ProviderError`: in
its words, its repr or its traceback with all causes.
"""

import base64
import logging
import traceback
import urllib.parse
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from providers.base import ProviderError
from tests.vendors.rows import KEY

_FORMAT = logging.Formatter()


def shapes(key: str = KEY) -> tuple[str, ...]:
    """How a key may be told: its beginning (and so itself), in base64 at each of the three offsets, in a URL."""
    encoded = (base64.b64encode(b"\0" * skip + key.encode()).decode() for skip in range(3))
    return (key[:12], urllib.parse.quote(key, safe=""), *(each[4:-4] for each in encoded))


def is_told(text: str, key: str = KEY) -> bool:
    return any(shape in text for shape in shapes(key))


def told_by(exc: BaseException) -> str:
    """All that an exception tells somebody who prints or logs it."""
    return "\n".join([str(exc), repr(exc), repr(vars(exc)), *traceback.format_exception(exc)])


@contextmanager
def listening(key: str = KEY) -> Iterator[list[str]]:
    """The list is filled with what tells the key while the block runs, and complete behind it."""
    telling: list[str] = []
    errors: list[ProviderError] = []
    init = ProviderError.__init__

    def keep(self: ProviderError, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        errors.append(self)

    handler = _Handler(telling, key)
    loggers = [logging.root, *_that_do_not_propagate()]
    before = logging.root.level
    ProviderError.__init__ = keep  # type: ignore[method-assign]
    logging.root.setLevel(logging.DEBUG)
    for logger in loggers:
        logger.addHandler(handler)
    try:
        yield telling
    finally:
        for logger in loggers:
            logger.removeHandler(handler)
        logging.root.setLevel(before)
        ProviderError.__init__ = init  # type: ignore[method-assign]
        telling += [f"ProviderError: {told}" for told in map(told_by, errors) if is_told(told, key)]


@pytest.fixture(autouse=True)
def canary() -> Iterator[None]:
    with listening() as telling:
        yield
    assert telling == [], "the key was told"


class _Handler(logging.Handler):
    def __init__(self, telling: list[str], key: str) -> None:
        super().__init__(logging.DEBUG)
        self._telling = telling
        self._key = key

    def emit(self, record: logging.LogRecord) -> None:
        # Before formatException: the record is told with its traceback, and with every field of ``extra``.
        trace = _FORMAT.formatException(record.exc_info) if record.exc_info and record.exc_info[0] else ""
        fields = (f"{value!r} {value}" for value in list(vars(record).values()))
        text = "\n".join([record.getMessage(), trace, *fields])
        if is_told(text, self._key):
            self._telling.append(f"{record.name}: {text}")


def _that_do_not_propagate() -> Iterable[logging.Logger]:
    found = logging.root.manager.loggerDict.values()
    return [each for each in found if isinstance(each, logging.Logger) and not each.propagate]
