"""An entry of a call's log for somebody who may look at the call but may not know what was said in it."""

from typing import Any

from agentd.ops.log import Entry

# Keys whose text is ours: states, kinds, vendors, codes. Any other text may be somebody's words, or a number of theirs.
OURS = frozenset(
    "type state cause llm stt tts turn_detection code error vendor role then mode limit completion_reason"
    " completionReason agent account_sid call_sid direction language name".split()
)
# Objects and lists of figures. Any other ones may hold words.
FIGURES = frozenset("latency parts instants usage caller agent tool_calls".split())
OF_FIGURES = OURS | {"result"}  # a speculation's: hit, miss, pending


def wordless(entry: Entry) -> Entry:
    """What of it may be shown. A key that nobody has thought of here is left out."""
    return {
        key: _figures(value)
        for key, value in entry.items()
        if (key in FIGURES if isinstance(value, dict | list) else _is_shown(key, value, OURS))
    }


def _figures(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: _figures(inner)
            for key, inner in value.items()
            if isinstance(inner, dict | list) or _is_shown(key, inner, OF_FIGURES)
        }
    if isinstance(value, list):
        return [_figures(inner) for inner in value if not isinstance(inner, str)]
    return value


def _is_shown(key: str, value: Any, texts: frozenset[str]) -> bool:
    return value is None or isinstance(value, bool | int | float) or (isinstance(value, str) and key in texts)
