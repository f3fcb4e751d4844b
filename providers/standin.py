"""What the stand-in says: written rules in the place of a language model, so that agentd talks without any key.

``answer(messages, tools)`` knows only what is in the request. It says what it is (a scripted stand-in, not a language
model), calls only tools that were declared, and tells a tool's result only as it came. The system prompt changes
nothing: rules cannot follow it, and do not pretend to. :mod:`providers.standin_server` puts it behind OpenAI's
protocol.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from providers.base import Message, Tool, ToolCall

MODEL = "standin-rules-1"

GREETING = (
    "Hello, this is agentd's demo agent. I am a scripted stand-in, not a language model. "
    "Ask me what I can do, or ask for a story."
)
WHO = (
    "I am agentd's demo agent. I am a scripted stand-in, not a language model. "
    "A few written rules choose what I say. Give agentd a key for a real model, and it will answer in my place."
)
HOW = (
    "Your words reach me as text. Where a language model would think, I look them up in a few written rules. "
    "My answer goes back as text, and agentd speaks it, sentence by sentence. "
    "When you talk while I am speaking, it stops me, and remembers only what you heard."
)
STORY = (
    "This is a story from my script. Once there was a lighthouse keeper who answered every ship that called in the "
    "night. One evening the fog was so thick that she could not see her own lamp. A small boat called and asked which "
    "way the harbour was, and she began to explain, slowly and with great care. Halfway through, the captain "
    "interrupted her, because he had already seen the light. She stopped at once, and listened, and for a while there "
    "was only the sound of the water. Then he thanked her, and said that of all the keepers on that coast, she was the "
    "only one who knew when to be quiet."
)
NO_RESPONSE = "Are you still there? I am listening."
INSTRUCTED = "I was given an instruction, but I am a scripted stand-in and can only follow my own rules."


@dataclass(frozen=True, slots=True)
class Say:
    """Words for the caller."""

    text: str


@dataclass(frozen=True, slots=True)
class Call:
    """A declared tool is wanted."""

    name: str
    arguments: Mapping[str, Any]


def answer(messages: Sequence[Message], tools: Sequence[Tool]) -> Say | Call:
    """The one decision: what to say or which tool to call, from the request alone."""
    last = messages[-1] if messages else Message("system", "")
    if last.role == "tool":
        return Say(_tell_results(messages))
    if last.role != "assistant" and re.search(r"\buser has not responded\b", last.content, re.I):
        return Say(NO_RESPONSE)
    if last.role == "system" and re.search(r"\bgreet the caller\b", last.content, re.I):
        return Say(GREETING)
    said = [message for message in messages if message.role != "system"]
    if not any(message.role == "user" for message in said) and not (said and last.role == "system"):
        return Say(GREETING)
    if said[-1].role != "user":  # a cue after our own words: generate_reply with instructions
        return Say(INSTRUCTED)
    return _to_caller(said[-1].content, said, tools)


def _to_caller(utterance: str, said: Sequence[Message], tools: Sequence[Tool]) -> Say | Call:
    words = plain(utterance)
    if re.search(r"\b(good ?bye|bye|hang up|that is all|that s all)\b", words):
        return _goodbye(tools)
    for pattern, reply in SMALL_TALK:
        if re.search(pattern, words):
            return Say(reply if isinstance(reply, str) else reply(said, tools))
    return _use_tool(utterance, words, tools) or Say(_not_understood(utterance, tools))


def plain(text: str) -> str:
    """Lower case, no punctuation, contractions as recognisers write them: ``what's`` → ``what is``."""
    text = text.lower().replace("’", "'").replace("what's", "what is").replace("how's", "how is")
    text = re.sub(r"(?<=\d),(?=\d{3}\b)", "", text)
    return " ".join(re.sub(r"[^\w.+*/%-]|\.(?!\d)", " ", text).split())


# Small talk -----------------------------------------------------------------------------------------------


def _repeat(said: Sequence[Message], tools: Sequence[Tool]) -> str:
    spoken = [message.content for message in said if message.role == "assistant" and message.content]
    return spoken[-1] if spoken else "I have not said anything yet."


def _abilities(tools: Sequence[Tool]) -> str:
    names = _listed([_spoken_name(tool.name) for tool in tools])
    with_tools = f"I can use these tools: {names}." if names else "I was given no tools."
    return f"{with_tools} I can also tell you a story, repeat what I said, and stop when you interrupt me."


def _what_can_you_do(said: Sequence[Message], tools: Sequence[Tool]) -> str:
    return f"{_abilities(tools)} I am a scripted stand-in, not a language model."


Reply = str | Callable[[Sequence[Message], Sequence[Tool]], str]
SMALL_TALK: list[tuple[str, Reply]] = [
    (r"^(please |ok |okay |no )*(stop|wait|hold on|be quiet|enough|never mind)\b", "All right, I stopped."),
    (r"\b(repeat (that|it|yourself)|say (that|it) again|what did you say|come again)\b|^(pardon|sorry)$", _repeat),
    (
        r"\bwhat (else )?(can|could|do) you do\b|^((please|can you) )?help( me)?$|\bwhat can i (ask|say)\b",
        _what_can_you_do,
    ),
    (r"\b(who|what) are you\b|\b(about yourself|your name|are you (a |an )?(real|human|robot|bot|person|ai))\b", WHO),
    (r"\bhow (does|do) (this|it|that|you|agentd) work\b", HOW),
    (r"\b(story|long answer)\b", STORY),
    (r"\bjoke\b", "I know one. A language model walks into a call. I was there first, because I needed no key."),
    (r"^(yes|no|okay|ok|sure|go on|continue)( please)?$", "All right. Ask me what I can do, or ask for a story."),
    (r"\bi have a question\b", "Please ask. I know only what is in my script, and I say so when I do not know."),
    (r"\bhow are you\b", "I am a script, so I have no moods, but everything works. What can I do for you?"),
    (r"^(yes )?(i am|i m) (still )?(here|there)\b", "Good. What can I do for you?"),
    (r"\b(thanks|thank you)\b", "You are welcome."),
    (r"^(hello|hi|hey|good (morning|afternoon|evening))( there)?$", "Hello. Ask me what I can do."),
]


def _not_understood(utterance: str, tools: Sequence[Tool]) -> str:
    heard = " ".join(utterance.split()[:20]).strip(" .,!?")
    heard = f"I heard: {heard}." if heard else "I heard no words."
    return f"{heard} I am a scripted stand-in, not a language model, and I did not understand. {_abilities(tools)}"


def _goodbye(tools: Sequence[Tool]) -> Say | Call:
    for tool in tools:
        if _is_hangup(tool.name):
            return Call(tool.name, {"reason": "the caller said goodbye"} if "reason" in _properties(tool) else {})
    return Say("Goodbye. I have no tool to hang up with, so you may do it.")


def _is_hangup(name: str) -> bool:
    return re.sub(r"[^a-z]", "", name.lower()) in ("hangup", "endcall", "hangupcall")


# Tools: which one, with what ------------------------------------------------------------------------------

_STOP_WORDS = (
    "a an the and or of to in on at for with by from is are was be do does can could will would i me my you your it "
    "this that these those what which who how please get set use tool current now want need like tell give some any "
    "about caller user e g number name string value returns return given"
)
STOP_WORDS = set(_STOP_WORDS.split())
ASKS_TIME = r"\b(?:what|which|tell|know|got|have|give)(?: is| you| me| the| current| us)* (?:time|date|day)\b"


def _use_tool(utterance: str, words: str, tools: Sequence[Tool]) -> Say | Call | None:
    expression = to_expression(words)
    wants_time = re.search(ASKS_TIME, words)
    for tool in tools:
        if expression and "expression" in _properties(tool):
            return Call(tool.name, {"expression": expression})
        if wants_time and {"date", "time", "datetime", "clock"} & set(_split(tool.name)):
            return _filled(tool, utterance, words)
    best = max(tools, key=lambda tool: _score(tool, words), default=None)
    return _filled(best, utterance, words) if best is not None and _score(best, words) >= 2 else None


def _score(tool: Tool, words: str) -> int:
    """One word of the name is enough; of the description and the parameters it takes two."""
    if _is_hangup(tool.name) or "expression" in _properties(tool):
        return 0  # those have rules of their own
    asked = _stems(words.split())
    parameters = " ".join(f"{name} {' '.join(map(str, p.get('enum', ())))}" for name, p in _properties(tool).items())
    other = _stems(_split(tool.description) + _split(parameters))
    return 2 * len(asked & _stems(_split(tool.name))) + len(asked & other)


def _filled(tool: Tool, utterance: str, words: str) -> Say | Call:
    arguments: dict[str, Any] = {}
    for name, schema in _properties(tool).items():
        value = _argument(name, schema, utterance, words)
        if value is not None:
            arguments[name] = value
    missing = [name for name in tool.parameters.get("required", ()) if name not in arguments]
    if missing:
        needed, name = _listed([_spoken_name(name) for name in missing]), _spoken_name(tool.name)
        return Say(f"For {name} I still need the {needed}. Please say it all in one sentence.")
    if "timezone" in _properties(tool) and "timezone" not in arguments and (place := _place(words)):
        return Say(f"I do not know the time zone of {place}, because only a few cities are in my script.")
    return Call(tool.name, arguments)


def _argument(name: str, schema: Mapping[str, Any], utterance: str, words: str) -> Any:
    if "enum" in schema:
        return next(
            (value for value in schema["enum"] if re.search(rf"\b{re.escape(plain(str(value)))}\b", words)), None
        )
    match schema.get("type"):
        case "integer" | "number":
            number = re.search(r"(?<![\w.])\d+(\.\d+)?", to_digits(words))
            if number is None:
                return None
            return float(number[0]) if "." in number[0] and schema["type"] == "number" else int(float(number[0]))
        case "boolean" | "array" | "object":
            return None
        case _:
            return _text_argument(name.lower(), utterance, words)


def _text_argument(name: str, utterance: str, words: str) -> str | None:
    if "timezone" in name or "time_zone" in name:
        return next((zone for city, zone in TIMEZONES.items() if re.search(rf"\b{city}\b", words)), None)
    if re.search(r"query|question|text|message|topic|request|summary|reason", name):
        about = re.search(r"\b(?:for|about) (.+)$", utterance.strip(" .!?"))
        return about[1] if about and "query" in name else utterance.strip()
    if re.search(r"date|day|when|time", name):
        day = re.search(r"\b(today|tonight|tomorrow|(mon|tues|wednes|thurs|fri|satur|sun)day)\b", words)
        hour = re.search(r"\bat (\d{1,2}( \d\d)?( ?[ap] ?m)?)\b", to_digits(words))
        return day[0] if day and "time" not in name else hour[1] if hour else None
    if "name" in name:
        who = re.search(r"\b(?:name is|called|under) ((?!the\b)\w+( \w+)?)$", words)
        return who[1].title() if who else None
    return _place(words)


def _place(words: str) -> str | None:
    """``the weather in new york today`` → ``New York``."""
    found = re.search(r"\b(?:in|near|at|for|to|from) (?!the\b|a\b|an\b|me\b)([^\W\d]\w*(?: [^\W\d]\w*)*)$", words)
    if found is None:
        return None
    place = re.sub(r"(\s*\b(right now|now|today|tomorrow|tonight|please|at the moment|(in|for|at) .*))+$", "", found[1])
    return place.title() or None


TIMEZONES = {
    "utc": "UTC",
    "london": "Europe/London",
    "paris": "Europe/Paris",
    "berlin": "Europe/Berlin",
    "madrid": "Europe/Madrid",
    "rome": "Europe/Rome",
    "moscow": "Europe/Moscow",
    "new york": "America/New_York",
    "chicago": "America/Chicago",
    "denver": "America/Denver",
    "los angeles": "America/Los_Angeles",
    "toronto": "America/Toronto",
    "sao paulo": "America/Sao_Paulo",
    "tokyo": "Asia/Tokyo",
    "beijing": "Asia/Shanghai",
    "shanghai": "Asia/Shanghai",
    "singapore": "Asia/Singapore",
    "hong kong": "Asia/Hong_Kong",
    "delhi": "Asia/Kolkata",
    "dubai": "Asia/Dubai",
    "sydney": "Australia/Sydney",
}


def _properties(tool: Tool) -> Mapping[str, Any]:
    properties = tool.parameters.get("properties")
    return {k: v for k, v in properties.items() if isinstance(v, Mapping)} if isinstance(properties, Mapping) else {}


def _split(text: str) -> list[str]:
    """Words of a name or a description: ``getWeather_now`` → get, weather, now."""
    return re.findall(r"[a-z]+|\d+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", text).lower())


def _stems(words: Sequence[str]) -> set[str]:
    kept = (word for word in words if len(word) > 1 and word not in STOP_WORDS)
    return {re.sub(r"(?<=\w{3})(ing|ed|s|e)$", "", word) for word in kept}


def _spoken_name(name: str) -> str:
    return " ".join(_split(name))


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


# Tools: telling the result --------------------------------------------------------------------------------


def _tell_results(messages: Sequence[Message]) -> str:
    """All results of the last round, in the order of the calls."""
    results: list[Message] = []
    for message in reversed(messages):
        if message.role != "tool":
            break
        results.insert(0, message)
    calls = {call.id: call for message in messages for call in message.tool_calls}
    return " ".join(_tell(calls.get(result.tool_call_id or ""), result.content) for result in results)


def _tell(call: ToolCall | None, content: str) -> str:
    name = _spoken_name(call.name) if call else "tool"
    result, asked = _json(content), _json(call.arguments) if call else {}
    if call and _is_hangup(call.name):
        return "Goodbye."
    if isinstance(result, Mapping) and result.get("error"):
        return f"The {name} tool failed. It says: {_as_words(result['error'])}."
    value = result.get("result") if isinstance(result, Mapping) else result
    if (
        isinstance(asked, Mapping)
        and "expression" in asked
        and (number := re.search(r"-?[\d.]+(e[+-]?\d+)?$", str(value)))
    ):
        return f"{_sentence(expression_words(str(asked['expression'])))} is {number[0].replace('-', 'minus ')}."
    if {"date", "time", "datetime", "clock"} & set(name.split()) and (told := _tell_time(content, asked)):
        return told
    text = result if isinstance(result, str) else f"The {name} tool says: {_as_words(result)}"
    text = " ".join(re.sub(r"[*_#`|]+", " ", text).split())[:400]
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _tell_time(content: str, asked: Any) -> str | None:
    date = re.search(r"\b\d{4}-(\d\d)-(\d\d)", content)
    time = re.search(r"(?<![\d:+-])(\d{1,2}):(\d\d)(?::\d\d)?(?:\.\d+)?\s*([ap]m)?", content, re.I)
    weekday = re.search(r"\b(Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day\b", content)
    zone = asked.get("timezone") if isinstance(asked, Mapping) else None
    where = f"In {str(zone).split('/')[-1].replace('_', ' ')} it" if zone else "It"
    parts = []
    if time:
        hour = int(time[1]) % 12 + 12 if (time[3] or "").lower() == "pm" else int(time[1])
        parts.append(time_words(hour, int(time[2])))
    named = re.search(rf"\b({'|'.join(MONTHS)}) (\d\d?)\b", content)
    day = f"{named[1]} {ordinal(int(named[2]))}" if named else ""
    if date and 1 <= int(date[1]) <= 12:
        day = f"{MONTHS[int(date[1]) - 1]} {ordinal(int(date[2]))}"
    parts += [", ".join(filter(None, [weekday[0] if weekday else "", day]))] if day or weekday else []
    return f"{where} is {', on '.join(parts)}." if parts else None


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _as_words(value: Any) -> str:
    """Plain data as a flat list of words: ``{"temp_c": 14}`` → ``temp c 14``; the first eight entries."""
    if isinstance(value, Mapping):
        return ", ".join(f"{_spoken_name(str(key))} {_as_words(entry)}" for key, entry in list(value.items())[:8])
    if isinstance(value, list):
        return ", ".join(_as_words(entry) for entry in value[:8])
    return {None: "nothing", True: "yes", False: "no"}.get(value) or str(value) if not isinstance(value, str) else value


# Numbers, spoken and written ------------------------------------------------------------------------------

_UNITS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
)
_TENS = "zero ten twenty thirty forty fifty sixty seventy eighty ninety"
_MONTHS = "January February March April May June July August September October November December"
UNITS, TENS, MONTHS = _UNITS.split(), _TENS.split(), _MONTHS.split()
SCALES = {"thousand": 1_000, "million": 1_000_000, "billion": 1_000_000_000}
SMALL = {word: n for n, word in enumerate(UNITS)} | {word: 10 * n for n, word in enumerate(TENS) if n > 1}
ORDINALS = {"one": "first", "two": "second", "three": "third", "five": "fifth", "eight": "eighth", "nine": "ninth"}
ORDINALS |= {"twelve": "twelfth"}


def to_digits(words: str) -> str:
    """Spoken numbers become digits: ``one hundred and five minus three point five`` → ``105 minus 3.5``."""
    words = re.sub(r"(?<=[a-z])-(?=[a-z])", " ", words)  # twenty-five; but a glued 555-1234 is no subtraction
    words = re.sub(r"(?<=\d)(\*\*|[+*/x%])(?=[\d ]|$)", r" \1 ", words)
    tokens, out, at = words.split(), [], 0
    while at < len(tokens):
        if tokens[at] == "a" and tokens[at + 1 : at + 2] in (["hundred"], ["thousand"], ["million"]):
            tokens[at] = "one"
        number, used = _number(tokens[at:])
        out.append(number if used else tokens[at])
        at += used or 1
    return " ".join(out)


def _number(tokens: Sequence[str]) -> tuple[str, int]:
    """The number that the tokens begin with, and how many of them it takes; 0 when there is none."""
    total = group = used = 0
    room = 1000  # a smaller part must follow: "twenty five" is one number, "two five" are two
    for at, token in enumerate(tokens):
        if token in SMALL and SMALL[token] < room and not (room == 10 and SMALL[token] == 0):
            group += SMALL[token]
            room = 10 if SMALL[token] >= 20 else 0
        elif token == "hundred" and 0 < group < 10:
            group, room = group * 100, 100
        elif token in SCALES and group:
            total, group, room = total + group * SCALES[token], 0, 1000
        elif token == "and" and used and room >= 100 and at + 1 < len(tokens) and tokens[at + 1] in SMALL:
            continue
        else:
            break
        used = at + 1
    if not used:
        return "", 0
    decimals = ""
    if tokens[used : used + 1] == ["point"]:
        for token in tokens[used + 1 :]:
            if SMALL.get(token, 10) > 9:
                break
            decimals += str(SMALL[token])
    return f"{total + group}.{decimals}" if decimals else str(total + group), used + (
        len(decimals) + 1 if decimals else 0
    )


N = r"\d+(?:\.\d+)?"
OPERATORS = {
    r"(?:raised )?to power(?: of)?|raised to|\*\*": "**",
    r"multiplied by|times|x|\*": "*",
    r"divided by|over|/": "/",
    r"plus|\+": "+",
    r"minus|less|-": "-",
}
REWRITES = [
    (rf"\bsquare root of ({N})", r"sqrt(\1)"),
    (rf"\b({N}) squared\b", r"\1 ** 2"),
    (rf"\b({N}) cubed\b", r"\1 ** 3"),
    (rf"\bhalf of ({N})", r"\1 / 2"),
    (rf"\b({N}) ?(?:percent|per cent|%) of ({N})", r"\1 / 100 * \2"),
    (rf"\b(?:add|sum of) ({N}) (?:and|to) ({N})", r"\1 + \2"),
    (rf"\bsubtract ({N}) from ({N})", r"\2 - \1"),
    (rf"\bdivide ({N}) by ({N})", r"\1 / \2"),
    (rf"\b(?:multiply|product of) ({N}) (?:by|and|with) ({N})", r"\1 * \2"),
]
SUM = re.compile(rf"(?:sqrt\({N}\)|{N})(?: (?:\*\*|[-+*/]) (?:sqrt\({N}\)|{N}))*")


def to_expression(words: str) -> str | None:
    """``what is twelve times seven`` → ``12 * 7``; ``None`` when no sum is asked for."""
    text = re.sub(r"\bthe ", "", to_digits(words))
    for pattern, replacement in REWRITES:
        text = re.sub(pattern, replacement, text)
    for pattern, sign in OPERATORS.items():
        text = re.sub(rf"(?<=[\d)]) (?:{pattern}) (?=\d|sqrt)", f" {sign} ", text)
    found = max((match[0] for match in SUM.finditer(text)), key=len, default="")
    return found if re.search(r"[-+*/(]", found) else None


def expression_words(expression: str) -> str:
    """``12 * 7`` → ``twelve times seven``."""
    said = [("**", " to the power of "), ("*", " times "), ("/", " divided by "), ("+", " plus "), ("-", " minus ")]
    text = re.sub(rf"({N}) ?/ ?100 ?\* ?({N})", r"\1 percent of \2", expression)
    text = re.sub(r"sqrt\((.*?)\)", r"the square root of \1", text)
    for sign, word in said:
        text = text.replace(sign, word)
    text = re.sub(r"(?<![\d.])\d{1,3}(?![\d.])", lambda match: number_words(int(match[0])), text)
    return " ".join(text.split())


def number_words(n: int) -> str:
    """0 to 999 in words; larger numbers in digits, which a synthesizer reads well."""
    if n < 20:
        return UNITS[n]
    if n < 100:
        return TENS[n // 10] + (f" {UNITS[n % 10]}" if n % 10 else "")
    if n < 1000:
        return f"{UNITS[n // 100]} hundred" + (f" and {number_words(n % 100)}" if n % 100 else "")
    return str(n)


def ordinal(n: int) -> str:
    *head, last = number_words(n).split()
    last = ORDINALS.get(last) or (f"{last[:-1]}ieth" if last.endswith("y") else f"{last}th")
    return " ".join([*head, last])


def time_words(hour: int, minute: int) -> str:
    """10:42 → ``ten forty two in the morning``."""
    part = "in the morning" if hour < 12 else "in the afternoon" if hour < 18 else "in the evening"
    minutes = "o'clock" if minute == 0 else f"oh {UNITS[minute]}" if minute < 10 else number_words(minute)
    return f"{number_words(hour % 12 or 12)} {minutes} {part}"


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
