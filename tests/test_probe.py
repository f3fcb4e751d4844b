"""`agentd check --probe`: what is said of vendors that are well, and of those that are not."""

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Any

from agentd.probe import probe
from config.files import Config
from config.server import Server
from config.verb import Agent
from providers.registry import Shared
from tests import virtual_time
from tests.vendors import rows
from tests.vendors.canary import canary as canary
from tests.vendors.script import Fault, Script

VENDORS = {"tts": "cartesia", "llm": "openai", "stt": "deepgram"}


def served(role: str) -> Any:
    every: Mapping[str, list[Any]] = {"tts": [*rows.TTS], "llm": [*rows.LLM], "stt": [*rows.STT]}
    return next(row.server for row in every[role] if row.vendor == VENDORS[role])


def lines(
    scripts: Mapping[str, Script] = {},
    *,
    agents: int = 1,
    key: str = rows.KEY,
) -> list[tuple[bool, str]]:
    """Of an agent whose three vendors behave as told."""

    async def main() -> list[tuple[bool, str]]:
        async with AsyncExitStack() as stack:
            at = {role: await stack.enter_async_context(served(role)(scripts.get(role, Script()))) for role in VENDORS}
            at["stt"].hears = ["yes indeed"]
            credentials = {
                "cartesia": {"apiKey": key, "url": at["tts"].url},
                "openai": {"apiKey": key, "baseURL": f"{at['llm'].url}/v1"},
                "deepgram": {"apiKey": key, "url": at["stt"].url},
            }
            server = Server.model_validate({"credentials": credentials})
            agent = Agent.parse({role: {"vendor": vendor, "model": "m"} for role, vendor in VENDORS.items()})
            shared = Shared()
            config = Config(server, {f"agent{at}": agent for at in range(agents)})
            try:
                return [tuple(found) async for found in probe(config, shared)]  # type: ignore[misc]
            finally:
                await shared.aclose()
                await asyncio.sleep(0)

    return virtual_time.run(main(), limit=600)


def test_vendors_that_are_well_are_told_with_their_times() -> None:
    told = lines({"tts": Script(first=0.25), "llm": Script(first=0.5)})
    assert told == [
        (True, "tts cartesia (agent0): reachable, authorised, first audio after 250 ms"),
        (True, "llm openai:m (agent0): reachable, authorised, first token after 500 ms"),
        (True, "stt deepgram (agent0): reachable, authorised, heard 'yes' after 0 ms"),
    ]


def test_what_several_agents_ask_alike_is_asked_once() -> None:
    assert [line.split(":")[0] for _, line in lines(agents=2)] == [
        "tts cartesia (agent0, agent1)",
        "llm openai",
        "stt deepgram (agent0, agent1)",
    ]


def test_a_refused_key_is_named_by_where_it_is_configured() -> None:
    (tts, llm, stt) = lines({role: Script(Fault.UNAUTHORIZED) for role in VENDORS})
    for (is_well, line), vendor, role in ((tts, "cartesia", "tts"), (llm, "openai", "llm"), (stt, "deepgram", "stt")):
        assert not is_well
        assert f"the key is refused: see credentials.{vendor} in agentd.yaml, or {role}.auth" in line
        assert rows.KEY not in line


def test_nobody_at_the_address_is_told_of_each() -> None:
    told = lines({role: Script(Fault.REFUSE) for role in VENDORS})
    assert [is_well for is_well, _ in told] == [False] * 3
    assert all("cannot be reached: is the address right" in line for _, line in told)


def test_a_vendor_that_says_nothing_is_waited_for_ten_seconds() -> None:
    (_, (is_well, line), _) = lines({"llm": Script(Fault.HANG)})
    assert (is_well, line) == (
        False,
        "llm openai:m (agent0): does not answer: is the address right, and may this machine go out? (waited 10 s)",
    )


def test_a_missing_key_is_what_has_to_be_mended() -> None:
    (tts, *_) = lines(key="")
    assert tts == (
        False,
        "tts cartesia (agent0): expected credentials.cartesia.apiKey (often ${CARTESIA_API_KEY}), got none",
    )
