"""jambonz's signature: 40 that are right or wrong, and the SDK's own word on ours."""

import json
import time
from typing import Any

import pytest
from jambonz_sdk.webhook import verify_signature_middleware

from agentd.outbound.signature import body, is_genuine, sign

NOW = 1_700_000_000
BODY = b'{"type":"user_interruption"}'
GOOD = "45841b656f7e6c4c85a11d7015389bcec37eaf67a76f4f2dd4216456655ed9ce"  # by openssl, of the secret s3cret
EMPTY = "21948100f1d7a89f3338f6b1106fc4f7a702fbe1493b833a3382f80193bde3fe"
UMLAUT = "eb23aec996758b1cbeaf42b04587ccf73f579ffad3ea013084b0c89303fac6cd"
LARGE = b'{"a":"' + b"x" * (1 << 20) + b'"}'


def at(seconds: int, content: bytes = BODY) -> str:
    return sign("s3cret", content, NOW + seconds)


VECTORS: dict[str, tuple[str, bytes, bool]] = {
    "as openssl signs it": (f"t={NOW},v1={GOOD}", BODY, True),
    "an empty body": (f"t={NOW},v1={EMPTY}", b"", True),
    "a body of Unicode": (f"t={NOW},v1={UMLAUT}", '{"a":"ü"}'.encode(), True),
    "the same Unicode as an escape": (f"t={NOW},v1={UMLAUT}", b'{"a":"\\u00fc"}', False),
    "1 MB": (at(0, LARGE), LARGE, True),
    "1 MB with another last byte": (at(0, LARGE), LARGE[:-1] + b"]", False),
    "bytes that are no text": (at(0, b"\xff\x00\n"), b"\xff\x00\n", True),
    "300 s old": (at(-300), BODY, True),
    "301 s old": (at(-301), BODY, False),
    "300 s ahead": (at(300), BODY, True),
    "301 s ahead": (at(301), BODY, False),
    "an old time on a new signature": (f"t={NOW - 10},v1={GOOD}", BODY, False),
    "v1 before t": (f"v1={GOOD},t={NOW}", BODY, True),
    "spaces between the parts": (f"t={NOW}, v1={GOOD}", BODY, True),
    "the old key's v1 first": (f"t={NOW},v1={'0' * 64},v1={GOOD}", BODY, True),
    "the old key's v1 last": (f"t={NOW},v1={GOOD},v1={'0' * 64}", BODY, True),
    "two wrong ones": (f"t={NOW},v1={'0' * 64},v1={'1' * 64}", BODY, False),
    "a v0 beside": (f"t={NOW},v0={'0' * 64},v1={GOOD}", BODY, True),
    "v0 only": (f"t={NOW},v0={GOOD}", BODY, False),
    "v2 only": (f"t={NOW},v2={GOOD}", BODY, False),
    "an unknown part": (f"t={NOW},kid=1,v1={GOOD}", BODY, True),
    "no t": (f"v1={GOOD}", BODY, False),
    "no v1": (f"t={NOW}", BODY, False),
    "an empty t": (f"t=,v1={GOOD}", BODY, False),
    "an empty v1": (f"t={NOW},v1=", BODY, False),
    "nothing": ("", BODY, False),
    "commas": (",,,", BODY, False),
    "the digest alone": (GOOD, BODY, False),
    "the header twice": (f"t={NOW},v1={GOOD}, t={NOW},v1={GOOD}", BODY, False),
    "two times": (f"t={NOW},t={NOW + 1},v1={GOOD}", BODY, False),
    "upper-case hex": (f"t={NOW},v1={GOOD.upper()}", BODY, False),
    "an upper-case name": (f"t={NOW},V1={GOOD}", BODY, False),
    "a digest cut short": (f"t={NOW},v1={GOOD[:-1]}", BODY, False),
    "a digest too long": (f"t={NOW},v1={GOOD}0", BODY, False),
    "one digit off": (f"t={NOW},v1={GOOD[:-1]}f", BODY, False),
    "a digest that is no ASCII": (f"t={NOW},v1={'é' * 64}", BODY, False),
    "a time that is no number": (f"t=now,v1={GOOD}", BODY, False),
    "a time of 10,000 digits": (f"t={'1' * 10_000},v1={GOOD}", BODY, False),
    "a time in Arabic digits": (f"t={''.join(chr(0x660 + int(d)) for d in str(NOW))},v1={GOOD}", BODY, False),
    "keys in another order": (at(0, b'{"a":1,"b":2}'), b'{"b":2,"a":1}', False),
}


@pytest.mark.parametrize("name", VECTORS)
def test_a_signature_is_believed_when_it_is_right(name: str) -> None:
    header, content, is_right = VECTORS[name]
    assert is_genuine(header, content, ["s3cret"], NOW) is is_right


def test_there_are_40_of_them() -> None:
    assert len(VECTORS) == 40


@pytest.mark.parametrize(
    ("secrets", "is_right"),
    [
        (["s3cret"], True),
        (["new", "s3cret"], True),
        (["s3cret", "new"], True),
        (["S3cret"], False),
        (["s3cre"], False),
        (["new", "newer"], False),
        ([], False),
    ],
)
def test_one_of_the_secrets_has_to_be_right(secrets: list[str], is_right: bool) -> None:
    assert is_genuine(f"t={NOW},v1={GOOD}", BODY, secrets, NOW) is is_right


def test_an_empty_secret_is_none() -> None:
    assert not is_genuine(sign("", BODY, NOW), BODY, [""], NOW)


def test_a_part_of_a_second_does_not_count() -> None:
    assert sign("s3cret", BODY, NOW + 0.999) == f"t={NOW},v1={GOOD}"
    assert is_genuine(at(-300), BODY, ["s3cret"], NOW + 0.999)


def test_the_sdk_believes_ours() -> None:
    content = body({"type": "user_transcript", "transcript": "Grüß Gott 😀 \u2028"})
    header = sign("s3cret", content, time.time())
    assert verify_signature_middleware(content, header, "s3cret")
    with pytest.raises(ValueError, match="verification failed"):
        verify_signature_middleware(content, header, "another")


@pytest.mark.parametrize(
    ("payload", "text"),
    [
        ({"b": 1, "a": 1.0}, '{"b":1,"a":1}'),
        ({"a": 0.998, "b": -0.0, "c": 1e20}, '{"a":0.998,"b":0,"c":100000000000000000000}'),
        ({"a": float("nan"), "b": [float("inf")]}, '{"a":null,"b":[null]}'),
        ({"a": 'ü\u2028\x07\x7f"\\/'}, '{"a":"ü\u2028\\u0007\x7f\\"\\\\/"}'),
        ({"a": "\ud800"}, '{"a":"\\ud800"}'),
        ({"b": 1, "10": 1, "9": {"1": 1, "0": 2}}, '{"9":{"0":2,"1":1},"10":1,"b":1}'),
        ({"4294967295": 1, "4294967294": 2, "01": 3}, '{"4294967294":2,"4294967295":1,"01":3}'),
        ({"a": True, "b": None, "c": (1, 2)}, '{"a":true,"b":null,"c":[1,2]}'),
    ],
    ids=str,
)
def test_a_body_is_what_javascript_would_write(payload: Any, text: str) -> None:
    assert body(payload) == text.encode()
    assert body(json.loads(body(payload))) == body(payload)
