"""What the body of a PUT does to a call: one change."""

from collections.abc import Callable, Mapping
from typing import Any

from starlette.exceptions import HTTPException

from agentd.call.isolation import asked
from agentd.errors import NORMAL
from agentd.ops.registry import Controls

UPDATES = ("agent_update", "pipeline_update")
NOISE = ("noise_isolation_status", "noiseIsolation_status")
NOISE_OPTIONS = tuple(f"{prefix}{name}" for prefix in ("noise_isolation_", "") for name in ("vendor", "level", "model"))
TOOL_OUTPUT = ("tool_output", "llm_tool_output", "tool_call_id")
CHANGES = (*UPDATES, NOISE[0], "call_status")

Change = Callable[[Controls], None]
COMPLETED = {"call_status": "completed"}


def change(asked_for: Mapping[str, Any]) -> Change:
    """Raises :class:`HTTPException`."""
    for key in asked_for:
        if key in TOOL_OUTPUT:
            raise HTTPException(422, f"{key}: tool results come over the socket that was asked")
        if key not in (*UPDATES, *NOISE, *NOISE_OPTIONS, "call_status"):
            raise HTTPException(
                422, f"{key[:40]}: belongs to jambonz's own REST interface; here it is one of {', '.join(CHANGES)}"
            )
    given = [key for key in (*UPDATES, *NOISE, "call_status") if key in asked_for]
    if len(given) != 1:
        raise HTTPException(400, f"expected one of {', '.join(CHANGES)}, got {len(given) or 'none'} of them")
    (key,) = given
    if key not in NOISE and (options := asked_for.keys() - {key}):
        raise HTTPException(422, f"{min(options)}: expected beside {NOISE[0]} only, got it with {key}")
    value = asked_for[key]
    if key in UPDATES:
        if not isinstance(value, dict):
            raise HTTPException(400, f"{key}: expected an object")
        return lambda call: call.update(value)
    if key in NOISE:
        try:
            asked(asked_for, None)
        except ValueError as exc:
            raise HTTPException(422, str(exc)) from exc
        return lambda call: call.noise_isolation(asked_for)
    if value != "completed":
        raise HTTPException(422, "call_status: expected completed")
    return lambda call: call.stop(NORMAL)
