"""jambonz's own REST interface: by it a call that came as a bare `listen` is handed back for a transfer."""

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import quote

from agentd.outbound.channel import HookFailed
from agentd.outbound.guard import Blocked, Guard, OutgoingFailed
from config.server import Jambonz

Transfer = Callable[[Mapping[str, Any]], Awaitable[None]]
"""Hands the call over with a `transfer` verb. Raises :class:`HookFailed`."""


def transfer_by(api: Jambonz, guard: Guard, account_sid: str, call_sid: str) -> Transfer:
    """The update that replaces the call's verbs, the `listen` that we are among them."""
    where = f"{api.url.rstrip('/')}/v1/Accounts/{quote(account_sid, safe='')}/Calls/{quote(call_sid, safe='')}"
    headers = {"Authorization": f"Bearer {api.api_key.get_secret_value()}", "Content-Type": "application/json"}

    async def transfer(verb: Mapping[str, Any]) -> None:
        body = {"transfer": {key: value for key, value in verb.items() if key != "verb"}}
        try:
            answer = await guard.request(
                "PUT", where, content=json.dumps(body).encode(), headers=headers, named=api.url
            )
        except (Blocked, OutgoingFailed) as exc:
            raise HookFailed(f"jambonz could not be asked to transfer the call: {exc}") from exc
        if not 200 <= answer.status < 300:
            raise HookFailed(f"jambonz refused to transfer the call: HTTP {answer.status}")

    return transfer
