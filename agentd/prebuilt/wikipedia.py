"""The tool `wikipedia`: what an encyclopedia says first about something."""

import re
from collections.abc import Mapping
from typing import Any

from agentd.prebuilt.base import Http, Prebuilt, Result, Unavailable, cut, get, in_time, words
from providers.base import Tool

LONGEST = 1500  # characters of a summary
PAGES = 3  # that are looked at: the first may only list what a word can mean
LANGUAGE = re.compile(r"[a-z]{2,3}(-[a-z]{2,8})?|simple")


def wikipedia_tool(http: Http) -> Prebuilt:
    """``http`` asks the Wikipedia of the language that the model names."""

    async def execute(arguments: Mapping[str, Any]) -> Result:
        query = words(arguments, "query", "Marie Curie")
        language = arguments.get("language") or "en"
        # It becomes a part of the host's name, so nothing else may get there.
        if not isinstance(language, str) or not LANGUAGE.fullmatch(language):
            raise Unavailable(f"expected language to be a code such as en or de, got {str(language)[:60]!r}")
        found = await get(http, f"https://{language}.wikipedia.org/w/api.php", _search(query))
        if "error" in found:
            raise Unavailable("expected articles from Wikipedia, got an error")
        pages = sorted(found.get("query", {}).get("pages", []), key=lambda page: int(page.get("index", 0)))
        written = [page for page in pages if str(page.get("extract", "")).strip()]
        page = next((page for page in written if "pageprops" not in page), written[0] if written else None)
        if page is None:
            return {"error": f"expected something that Wikipedia knows, got {query[:60]!r}"}
        others = [str(other["title"])[:100] for other in pages if other is not page]
        summary = {"title": str(page["title"])[:200], "summary": cut(str(page["extract"]), LONGEST)}
        return {**summary, **({"see_also": others} if others else {})}

    tool = Tool(
        name="wikipedia",
        description="Look something up in Wikipedia: a person, a place, an event, a term. Gives a short summary.",
        parameters={
            "type": "object",
            "properties": {
                "query": {"type": "string", "description": "what to look up, in a few words"},
                "language": {"type": "string", "description": "of the Wikipedia to ask: en, de, fr, …"},
            },
            "required": ["query"],
            "additionalProperties": False,
        },
    )
    return Prebuilt(tool, in_time(execute))


def _search(query: str) -> Mapping[str, str | int]:
    """Search, and the text before the first heading of what is found, in one request."""
    return {
        "action": "query",
        "format": "json",
        "formatversion": 2,
        "generator": "search",
        "gsrsearch": query,
        "gsrlimit": PAGES,
        "gsrnamespace": 0,
        "prop": "extracts|pageprops",
        "exintro": 1,
        "explaintext": 1,
        "exlimit": PAGES,
        "ppprop": "disambiguation",
        "redirects": 1,
    }
