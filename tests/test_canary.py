"""The canary of the contract suites sings when it should."""

import base64
import logging
import urllib.parse

from providers.base import ProviderError
from tests.vendors.canary import is_told, listening
from tests.vendors.rows import KEY


def test_a_log_record_that_tells_the_key_is_found_at_any_level_and_in_any_part() -> None:
    log = logging.getLogger("some.library")
    with listening() as telling:
        log.debug("> Authorization: Token %s", KEY)
        log.info("dialled", extra={"headers": {"authorization": KEY}})
        try:
            raise ValueError(KEY)
        except ValueError:
            log.exception("it broke")
        log.info("nothing to see")
    assert len(telling) == 3


def test_an_error_that_tells_the_key_is_found_also_in_what_caused_it() -> None:
    with listening() as telling:
        ProviderError("acme", "stt-unauthorized", "wrong key")
        ProviderError("acme", "stt-unauthorized", f"wrong key: {KEY}")
        try:
            try:
                raise ValueError(f"cannot send {KEY}")
            except ValueError as exc:
                raise ProviderError("acme", "stt-bad-request", "no") from exc
        except ProviderError:
            pass
    assert len(telling) == 2


def test_the_key_is_found_in_other_shapes() -> None:
    for text in (KEY[:12], urllib.parse.quote(KEY, safe=""), base64.b64encode(f"user:{KEY}".encode()).decode()):
        assert is_told(f"so {text} it is")
    assert not is_told("canary")
