"""Who may come in: the rule by itself, and where the server listens."""

from base64 import b64encode
from typing import Any

import pytest

from agentd.access import (
    ADDRESSES,
    ANYTHING,
    FAILURES,
    Failures,
    Gate,
    Knock,
    Pass,
    Refusal,
    Rights,
    credential,
    host_to_listen_on,
    in_words,
    is_this_machine,
    prefix,
)
from config.check import check
from config.problems import ConfigError
from config.server import Access, Server

HERE, THERE = "127.0.0.1", "203.0.113.7"


def access(value: Any) -> Access:
    return Server.parse({"access": value}).access


def basic(credentials: str) -> str:
    return f"Basic {b64encode(credentials.encode()).decode()}"


NAMED = access(
    {
        "listen": [
            {"username": "jambonz", "password": "pass:word"},
            {"username": "hotel", "password": "old", "agents": ["desk"], "accounts": ["one"]},
            {"username": "hotel", "password": "new", "agents": ["desk"], "accounts": ["one"]},
            {"username": "hotel", "password": "new", "agents": ["bar"], "accounts": ["two"]},
        ],
        "keys": [{"key": "all"}, {"key": "desk's", "agents": ["desk"]}],
    }
)
HOTEL = Pass(frozenset({"desk"}), frozenset({"one"}))


def calls(credentials: str | None, address: str = THERE) -> Knock:
    return Knock("listen", address, None if credentials is None else basic(credentials))


def asks(key: str | None, address: str = THERE) -> Knock:
    return Knock("keys", address, None if key is None else f"Bearer {key}")


# Credentials ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("knock", "rights"),
    [
        (calls("jambonz:pass:word"), ANYTHING),
        (calls("hotel:old"), Rights((HOTEL,))),
        (calls("hotel:new"), Rights((HOTEL, Pass(frozenset({"bar"}), frozenset({"two"}))))),
        (asks("all"), ANYTHING),
        (asks("desk's"), Rights((Pass(frozenset({"desk"})),))),
        (Knock("keys", THERE, "bearer  all "), ANYTHING),
    ],
)
def test_credentials_bring_the_rights_of_every_entry_that_has_them(knock: Knock, rights: Rights) -> None:
    assert Gate(NAMED).decide(knock, 0.0) == rights


@pytest.mark.parametrize(
    "knock",
    [
        calls(None),
        calls("jambonz:"),
        calls("jambonz:pass"),
        calls("jambonz"),
        calls("Jambonz:pass:word"),
        calls("jambonz:pass:word "),
        calls("hotel:pass:word"),
        Knock("listen", THERE, "Bearer all"),
        Knock("listen", THERE, "Basic ***"),
        Knock("listen", THERE, "Basic " + b64encode(b"\xff\xfe:x").decode()),
        Knock("listen", THERE, "Basic"),
        Knock("listen", THERE, ""),
        asks(None),
        asks(""),
        asks("ALL"),
        asks("\udcff"),
        Knock("keys", THERE, basic("jambonz:pass:word")),
    ],
)
def test_anything_else_is_asked_for_credentials(knock: Knock) -> None:
    refusal = Gate(NAMED).decide(knock, 0.0)
    challenge = 'Basic realm="agentd", charset="UTF-8"' if knock.door == "listen" else 'Bearer realm="agentd"'
    assert isinstance(refusal, Refusal)
    assert (refusal.status, refusal.headers) == (401, (("www-authenticate", challenge),))


def test_every_entry_is_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[int, int]] = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((len(one), len(other)))
        return one == other

    gate = Gate(NAMED)
    monkeypatch.setattr("hmac.compare_digest", compare)
    gate.decide(calls("jambonz:pass:word"), 0.0)
    gate.decide(calls("x" * 1000), 0.0)
    assert compared == [(32, 32)] * 8


def test_the_two_lists_of_an_entry_belong_together() -> None:
    rights = Rights((HOTEL, Pass(frozenset({"bar"}), frozenset({"two"}))))
    assert rights.has_agent("desk") and rights.has_agent("bar") and not rights.has_agent("spa")
    pairs = [(agent, account) for agent in ("desk", "bar") for account in ("one", "two") if rights.has(agent, account)]
    assert pairs == [("desk", "one"), ("bar", "two")]
    assert ANYTHING.has("spa", "three")


def test_a_door_that_names_nobody_is_shut_once_the_other_one_names_somebody() -> None:
    callers = Gate(access({"open": True, "listen": [{"username": "a", "password": "b"}]}))
    keys = Gate(access({"keys": [{"key": "k"}]}))
    assert callers.decide(asks("k", HERE), 0.0) == Refusal(
        403, "nobody may come in here: access.keys in agentd.yaml names nobody"
    )
    assert keys.decide(calls("a:b"), 0.0) == Refusal(
        403, "nobody may come in here: access.listen in agentd.yaml names nobody"
    )


@pytest.mark.parametrize(
    "value",
    [
        {"listen": [{"username": "a:b", "password": "c"}]},
        {"listen": [{"username": "", "password": "c"}]},
        {"listen": [{"username": "a", "password": ""}]},
        {"keys": [{"key": ""}]},
        {"keys": [{}]},
    ],
)
def test_empty_and_ambiguous_credentials_are_mistakes_of_the_configuration(value: Any) -> None:
    faults = check(Server, {"access": value})
    assert isinstance(faults, list) and [str(fault).partition(",")[0] for fault in faults]


# Nobody named --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("here", ["127.0.0.1", "127.8.9.1", "::1", "::ffff:127.0.0.1"])
def test_without_credentials_this_machine_may_come_in(here: str) -> None:
    assert Gate(Access()).decide(calls(None, here), 0.0) == ANYTHING
    assert Gate(Access()).decide(asks(None, here), 0.0) == ANYTHING


@pytest.mark.parametrize("there", [THERE, "10.0.0.1", "2001:db8::1", "::ffff:10.0.0.1", "", "unknown", "localhost.x"])
def test_without_credentials_nobody_else_may(there: str) -> None:
    for knock in (calls(None, there), asks(None, there)):
        assert Gate(Access()).decide(knock, 0.0) == Refusal(
            403, "only this machine may come in: access in agentd.yaml names nobody"
        )
        assert Gate(access("open")).decide(knock, 0.0) == ANYTHING


@pytest.mark.parametrize(
    ("origin", "may"),
    [
        ("http://127.0.0.1:8080", True),
        ("http://localhost:3000", True),
        ("http://[::1]", True),
        ("https://evil.example", False),
        ("null", False),
        ("http://[", False),
        ("", False),
    ],
)
def test_a_page_from_elsewhere_may_not_phone_an_agent_on_this_machine(origin: str, may: bool) -> None:
    assert (Gate(Access()).decide(Knock("listen", HERE, None, origin), 0.0) == ANYTHING) is may


# Guessing ------------------------------------------------------------------------------------------------


def test_ten_failures_a_minute_are_enough() -> None:
    gate = Gate(NAMED)
    for second in range(FAILURES):
        refusal = gate.decide(calls("jambonz:guess"), float(second))
        assert isinstance(refusal, Refusal) and refusal.status == 401
    too_many = "expected at most 10 failures a minute from one address, got more"
    assert gate.decide(calls("jambonz:pass:word"), 9.5) == Refusal(429, too_many, (("retry-after", "51"),))
    assert gate.decide(asks("all"), 59.99) == Refusal(429, too_many, (("retry-after", "1"),))
    assert gate.decide(calls("jambonz:pass:word", HERE), 9.5) == ANYTHING
    assert gate.decide(calls("jambonz:pass:word"), 60.0) == ANYTHING
    gate.decide(calls("jambonz:guess"), 60.5)  # the tenth since 1.0
    assert gate.decide(calls("jambonz:pass:word"), 60.9) == Refusal(429, too_many, (("retry-after", "1"),))


def test_a_success_lifts_nothing_and_a_limited_attempt_adds_nothing() -> None:
    gate = Gate(NAMED)
    for _ in range(FAILURES):
        gate.decide(asks("guess"), 0.0)
        gate.decide(calls("jambonz:pass:word", HERE), 0.0)
    for second in range(1, 60):
        refusal = gate.decide(asks("guess"), float(second))
        assert isinstance(refusal, Refusal) and refusal.status == 429
    assert gate.decide(asks("all"), 60.0) == ANYTHING


def test_the_limit_of_a_guesser_stands_though_it_holds_one_good_key() -> None:
    gate = Gate(NAMED)
    for _ in range(FAILURES):
        gate.decide(asks("guess"), 0.0)
        gate.decide(asks("all"), 0.0)
    refusal = gate.decide(asks("all"), 1.0)
    assert isinstance(refusal, Refusal) and refusal.status == 429


def test_this_machine_is_limited_as_well_and_no_credentials_are_no_guess() -> None:
    gate = Gate(NAMED)
    for _ in range(100):
        gate.decide(asks(None, HERE), 0.0)
    assert gate.decide(asks("all", HERE), 0.0) == ANYTHING
    for _ in range(FAILURES):
        gate.decide(asks("guess", HERE), 0.0)
    refusal = gate.decide(asks("all", HERE), 0.0)
    assert isinstance(refusal, Refusal) and refusal.status == 429


@pytest.mark.parametrize(
    ("address", "counted"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
        ("unknown" * 100, ("unknown" * 100)[:64]),
    ],
)
def test_ipv6_addresses_are_counted_by_subscriber(address: str, counted: str) -> None:
    assert prefix(address) == counted


def test_the_table_of_addresses_is_bounded_and_forgets_the_oldest() -> None:
    failures = Failures()
    for _ in range(FAILURES):
        failures.failed("guesser", 0.0)
    for number in range(ADDRESSES - 1):
        failures.failed(f"other-{number}", 1.0)
    assert (len(failures), failures.wait("guesser", 2.0)) == (ADDRESSES, 58.0)
    failures.failed("one more", 2.0)
    assert (len(failures), failures.wait("guesser", 2.0)) == (ADDRESSES, 0.0)


def test_a_header_is_read_by_its_scheme_only() -> None:
    assert credential("listen", basic("a:b")) == "a:b"
    assert credential("listen", "BASIC " + b64encode("ä:ö".encode()).decode()) == "ä:ö"
    assert credential("keys", basic("a:b")) is None
    assert credential("keys", None) is None


# Where the server listens --------------------------------------------------------------------------------

THREE_WAYS = (
    "agentd.yaml: server.host: expected an address of this machine, such as 127.0.0.1, as nobody is named under "
    "access, got '0.0.0.0'; name who may come in (access: {listen: …, keys: …}), or say that anyone may "
    "(access: open, agentd serve --open)"
)


@pytest.mark.parametrize(
    ("given", "host", "listens"),
    [
        ({}, None, "127.0.0.1"),
        ({}, "127.0.0.2", "127.0.0.2"),
        ({}, "::1", "::1"),
        ({}, "localhost", "localhost"),
        ("open", None, "0.0.0.0"),
        ("open", "10.1.2.3", "10.1.2.3"),
        ({"keys": [{"key": "k"}]}, None, "0.0.0.0"),
        ({"listen": [{"username": "a", "password": "b"}]}, None, "0.0.0.0"),
        ({"keys": [{"key": "k"}]}, "127.0.0.1", "127.0.0.1"),
    ],
)
def test_only_this_machine_is_listened_to_unless_somebody_is_named_or_anyone_may(
    given: Any, host: str | None, listens: str
) -> None:
    assert host_to_listen_on(access(given), host, where="agentd.yaml: server.host") == listens


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.1.2.3", "voice.example.com"])
def test_another_address_without_a_word_on_who_may_come_in_is_an_error_with_three_ways_out(host: str) -> None:
    with pytest.raises(ConfigError) as error:
        host_to_listen_on(Access(), host, where="agentd.yaml: server.host")
    assert str(error.value) == THREE_WAYS.replace("0.0.0.0", host)
    assert not is_this_machine(host)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "this machine only"),
        ("open", "anyone (access: open)"),
        ({"listen": [{"username": "a", "password": "b"}]}, "calls with a password; no REST (nobody under access.keys)"),
        ({"open": True, "keys": [{"key": "k"}]}, "no calls (nobody under access.listen); REST with a key"),
        (
            {"listen": [{"username": "a", "password": "b"}], "keys": [{"key": "k"}]},
            "calls with a password; REST with a key",
        ),
    ],
)
def test_who_may_come_in_is_said_in_words(given: Any, words: str) -> None:
    assert in_words(access(given)) == words


@pytest.mark.parametrize(
    ("host", "may"),
    [
        ("localhost:8080", True),
        ("127.0.0.1", True),
        ("[::1]:8080", True),
        (None, True),
        ("evil.example:8080", False),
        ("localhost.evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("192.168.1.4:8080", False),
        ("[::1", False),
    ],
)
def test_a_name_that_was_led_here_opens_nothing(host: str | None, may: bool) -> None:
    assert (Gate(Access()).decide(Knock("keys", HERE, host=host), 0.0) == ANYTHING) is may
