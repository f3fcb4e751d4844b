"""The tool `weather`: how it is now at a place, from Open-Meteo, which wants no key."""

from collections.abc import Mapping
from typing import Any

from agentd.prebuilt.base import Http, Prebuilt, Result, Unavailable, get, in_time, words
from providers.base import Tool

PLACES = "https://geocoding-api.open-meteo.com/v1/search"
FORECAST = "https://api.open-meteo.com/v1/forecast"
CURRENT = "temperature_2m,apparent_temperature,relative_humidity_2m,wind_speed_10m,weather_code"
CANDIDATES = 10  # places of one name
SCALES = ("celsius", "fahrenheit")

# WMO code 4677, as far as Open-Meteo uses it.
CONDITIONS: Mapping[int, str] = {
    0: "clear sky",
    1: "mainly clear",
    2: "partly cloudy",
    3: "overcast",
    45: "fog",
    48: "freezing fog",
    51: "light drizzle",
    53: "drizzle",
    55: "dense drizzle",
    56: "light freezing drizzle",
    57: "freezing drizzle",
    61: "light rain",
    63: "rain",
    65: "heavy rain",
    66: "light freezing rain",
    67: "freezing rain",
    71: "light snow",
    73: "snow",
    75: "heavy snow",
    77: "snow grains",
    80: "light rain showers",
    81: "rain showers",
    82: "violent rain showers",
    85: "light snow showers",
    86: "heavy snow showers",
    95: "thunderstorm",
    96: "thunderstorm with light hail",
    99: "thunderstorm with heavy hail",
}


def weather_tool(http: Http) -> Prebuilt:
    """``http`` asks Open-Meteo's two servers."""

    async def execute(arguments: Mapping[str, Any]) -> Result:
        location = words(arguments, "location", "Portland, Oregon", longest=100)
        scale = arguments.get("scale") or "celsius"
        if scale not in SCALES:
            raise Unavailable(f"expected scale to be celsius or fahrenheit, got {str(scale)[:60]!r}")
        name, _, region = location.partition(",")
        query: dict[str, str | int] = {
            "name": name.strip(),
            "count": CANDIDATES,
            "language": "en",
            "format": "json",
        }
        places = (await get(http, PLACES, query)).get("results") or []
        if not places:
            return {"error": f"expected the name of a place, got {location!r}, which is not known"}
        place = _meant(places, region.strip())
        units = {"wind_speed_unit": "mph"} if scale == "fahrenheit" else {}
        asked: dict[str, str | float] = {
            "latitude": float(place["latitude"]),
            "longitude": float(place["longitude"]),
            "current": CURRENT,
            "temperature_unit": str(scale),
            "timezone": "auto",
            **units,
        }
        now = (await get(http, FORECAST, asked))["current"]
        return {
            "location": ", ".join(str(place[key]) for key in ("name", "admin1", "country") if place.get(key)),
            "conditions": CONDITIONS.get(int(now["weather_code"]), "unknown"),
            "temperature": float(now["temperature_2m"]),
            "feels_like": float(now["apparent_temperature"]),
            "humidity_percent": float(now["relative_humidity_2m"]),
            "wind_speed": float(now["wind_speed_10m"]),
            "units": {"temperature": scale, "wind_speed": "mph" if units else "km/h"},
            "local_time": str(now["time"])[:40],
        }

    tool = Tool(
        name="weather",
        description="Get the current weather at a place: temperature, what it feels like, humidity, wind, conditions.",
        parameters={
            "type": "object",
            "properties": {
                "location": {"type": "string", "description": "a city, with its state or country: 'Portland, Oregon'"},
                "scale": {"type": "string", "enum": [*SCALES], "description": "as the caller's country has it"},
            },
            "required": ["location"],
            "additionalProperties": False,
        },
    )
    return Prebuilt(tool, in_time(execute))


def _meant(places: list[dict[str, Any]], region: str) -> dict[str, Any]:
    """The first that lies there, as they come in the order of their weight."""
    wanted = {part.strip().casefold() for part in region.split(",") if part.strip()}
    for place in places:
        names = {str(place.get(key, "")).casefold() for key in ("admin1", "admin2", "country", "country_code")}
        if wanted and wanted <= names:
            return place
    return places[0]
