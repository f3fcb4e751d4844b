"""The built-in tool `transfer_to_human`: what the model is offered, and the jambonz verb that comes of it.

The verb's ``handoff`` names the targets; the model says when, why and what the human should know, never where to.
"""

from collections.abc import Mapping
from typing import Any

from config.conversation import Handoff, Hook
from providers.base import Tool

BRIEF_LIMIT = 1_000  # characters that are read out to the human
WHEN = "Put the caller through to a human. Tell the caller that you are connecting them before you do it."
SUMMARY = "What the human should know before they speak to the caller: who calls, what it is about, what was done."


def offered(handoff: Handoff) -> Tool:
    """The tool as the model sees it."""
    properties: dict[str, Any] = {"reason": {"type": "string", "description": "why the caller is put through"}}
    if briefs(handoff):
        properties["summary"] = {"type": "string", "description": handoff.brief.template or SUMMARY}
    return Tool(
        name=handoff.tool_name,
        description=handoff.tool_description or WHEN,
        parameters={"type": "object", "properties": properties, "required": ["summary"] if briefs(handoff) else []},
    )


def briefs(handoff: Handoff) -> bool:
    """Is the human told something first? Only a warm transfer has a moment for it."""
    return handoff.mode == "warm" and handoff.brief.mode != "none"


def verb(handoff: Handoff, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Jambonz's `transfer` verb. It holds the passwords of the hooks that it names."""
    given = handoff.given()
    told = {key: value for key, value in given.items() if key not in ("brief", "briefSynthesizer", *TOOL_KEYS)}
    for key, hook in (
        ("onHoldHook", handoff.on_hold_hook),
        ("actionHook", handoff.action_hook),
        ("eventHook", handoff.event_hook),
    ):
        if hook is not None:
            told[key] = _hook(hook)
    summary = str(arguments.get("summary") or "").strip()[:BRIEF_LIMIT]
    if briefs(handoff) and summary:
        voice = {} if handoff.brief_synthesizer is None else {"synthesizer": handoff.brief_synthesizer.given()}
        told["brief"] = {"text": summary, **voice}
    return {"verb": "transfer", **told}


TOOL_KEYS = ("toolName", "toolDescription")


def _hook(hook: Hook) -> dict[str, Any]:
    auth = {}
    if hook.username is not None:
        password = hook.password.get_secret_value() if hook.password else ""
        auth = {"basicAuth": {"username": hook.username, "password": password}}
    return {"url": hook.url, "method": hook.method, **auth}
