"""Dialling a vendor: what went wrong, in our words."""

import ssl

import pytest
from websockets.exceptions import InvalidURI

from providers.sockets import dial_failure, tls


@pytest.mark.parametrize(
    ("exc", "code"),
    [
        (ConnectionRefusedError(), "stt-connection-lost"),
        (ssl.SSLCertVerificationError("self-signed"), "stt-connection-lost"),
        (EOFError(), "stt-connection-lost"),
        (TimeoutError(), "stt-timeout"),
        (InvalidURI("x", "no scheme"), "stt-bad-request"),
        (ValueError("port"), "stt-bad-request"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_failure_to_dial_has_a_code(exc: Exception, code: str) -> None:
    assert dial_failure(exc, "stt", "acme").code == code


def test_certificates_are_checked_and_read_once() -> None:
    assert tls() is tls()
    assert (tls().verify_mode, tls().check_hostname) == (ssl.CERT_REQUIRED, True)
