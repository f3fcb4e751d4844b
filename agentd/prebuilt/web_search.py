"""The tool `web_search`: what the web says now, by Tavily, with the operator's key."""

from collections.abc import Mapping
from typing import Any

from agentd.prebuilt.base import Http, Prebuilt, Result, cut, in_time, post, words
from providers.base import Tool

SEARCH = "https://api.tavily.com/search"
RESULTS = 5
LONGEST = 600  # characters of each
VARIABLE = "TAVILY_API_KEY"


def web_search_tool(http: Http, key: str) -> Prebuilt:
    """``key`` is Tavily's."""

    async def execute(arguments: Mapping[str, Any]) -> Result:
        asked = {
            "query": words(arguments, "query", "opening hours of the Louvre", longest=400),
            "search_depth": "basic",
            "include_answer": True,
            "max_results": RESULTS,
        }
        found = await post(http, SEARCH, asked, {"authorization": f"Bearer {key}"})
        results = [
            {
                "title": str(result["title"])[:200],
                "content": cut(str(result["content"]), LONGEST),
                "url": str(result["url"])[:300],
            }
            for result in found["results"][:RESULTS]
        ]
        answer = found.get("answer")
        return {**({"answer": cut(str(answer), 2 * LONGEST)} if answer else {}), "results": results}

    tool = Tool(
        name="web_search",
        description="Search the web for what is current: news, prices, opening hours, anything that may have changed.",
        parameters={
            "type": "object",
            "properties": {"query": {"type": "string", "description": "what to search for, in a few words"}},
            "required": ["query"],
            "additionalProperties": False,
        },
    )
    return Prebuilt(tool, in_time(execute))
