"""What the author of a broken file reads."""

from pathlib import Path

import pytest

from config.files import load
from config.problems import ConfigError

VENDORS = {"stt": ["deepgram", "local"], "llm": ["openai", "demo"], "tts": ["cartesia", "local"]}
VENDOR_LINES = "stt: {vendor: local}\nllm: {vendor: demo}\ntts: {vendor: local}\n"  # lines 1 to 3
CANARY = "sk-canary-7f3a"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "agents").mkdir()
    return tmp_path


def problems(text: str | bytes, *, file: str = "agents/a.yaml", env: dict[str, str] | None = None) -> list[str]:
    """The lines that are printed for one file's text."""
    Path(file).write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(ConfigError) as caught:
        load(Path("agentd.yaml") if file == "agentd.yaml" else None, VENDORS, env=env or {})
    assert str(caught.value).splitlines() == [str(problem) for problem in caught.value.problems]
    return str(caught.value).splitlines()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "bargeIn:\n  enable: true\n  minSpeechDuration: abc\n",
            "agents/a.yaml:6: bargeIn.minSpeechDuration: expected a number of seconds ≥ 0, got 'abc'",
        ),
        (
            "bargeIn: {minSpeechDuration: -1}\n",
            "4: bargeIn.minSpeechDuration: expected a number of seconds ≥ 0, got -1",
        ),
        ("bargein: {enable: true}\n", "agents/a.yaml:4: bargein: unknown key; did you mean bargeIn?"),
        ("no_response_timeout: 3\n", "4: no_response_timeout: unknown key; did you mean noResponseTimeout?"),
        ("turnDetection: kirsp\n", "agents/a.yaml:4: turnDetection: expected stt or krisp, got 'kirsp'"),
        ("turnDetection: {threshold: 1}\n", "4: turnDetection.mode: expected stt or krisp, but it is missing"),
        ("noResponseTimeout: true\n", "4: noResponseTimeout: expected a number of seconds ≥ 0, got true"),
        ("noResponseTimeout: .inf\n", "4: noResponseTimeout: expected a number of seconds ≥ 0, got '.inf'"),
        ("description: 12\n", "agents/a.yaml:4: description: expected text, got 12; put it in quotes"),
        ("speak: [yes]\n", "agents/a.yaml:4: speak: expected true or false, got a list"),
        ("toolHook: 5\n", "agents/a.yaml:4: toolHook: expected a path, a URL or an object, got 5"),
        ("autoLockLanguage: never\n", "4: autoLockLanguage: expected false, true or always, got 'never'"),
        ("toolFiller: {type: audio}\n", "agents/a.yaml:4: toolFiller: expected a url for type audio"),
        ("mcpServers:\n  - {}\n", "5: mcpServers[0].url: expected an http, https, ws or wss URL, but it is missing"),
        ("verb: llm\n", "agents/a.yaml:4: verb: expected the verb agent (or its older name pipeline), got 'llm'"),
        ("speak: true\nspeak: false\n", "agents/a.yaml:5: speak: duplicate key; it stands on line 4 already"),
        ("description: ${WHO}\n", "agents/a.yaml:4: description: the environment variable WHO is not set"),
        (
            "description: ${WHO-me}\n",
            "4: description: expected ${NAME} or ${NAME:-default} (a plain ${ is written $${)",
        ),
        ("greeting: 'x\n", "agents/a.yaml:5: not valid YAML: found unexpected end of stream"),
        ("\tspeak: true\n", "agents/a.yaml:4: not valid YAML: found character '\\t' that cannot start any token"),
        (
            "speak: !!python/name:os.system x\n",
            "expected plain data, got the YAML tag 'tag:yaml.org,2002:python/name:os.system'",
        ),
        ("noResponseTimeout: !!int abc\n", "expected what its tag 'tag:yaml.org,2002:int' says, got something else"),
        ("languageConfig: &a {es: *a}\n", "languageConfig.es: expected a value, got an alias of what it stands in"),
    ],
)
def test_a_fault_is_named_with_its_line_and_in_plain_words(text: str, message: str) -> None:
    (line,) = problems(VENDOR_LINES + text)
    assert line.endswith(message) and line.startswith("agents/a.yaml:")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "stt: {vendor: deepgrm}",
            "stt.vendor: expected the name of a vendor for stt, got 'deepgrm'; did you mean deepgram?",
        ),
        (
            "stt: {vendor: whisper}",
            "stt.vendor: expected the name of a vendor for stt, got 'whisper'; known: deepgram, local",
        ),
        ("stt: {vendro: local, vendor: local}", "stt.vendro: unknown key; did you mean vendor?"),
        ("stt: {vendor: local, deepgramOptions: 5}", "stt.deepgramOptions: expected an object, got 5"),
        ("stt: {language: en}", "stt.vendor: expected a vendor here or in agentd.yaml under defaults.stt"),
    ],
)
def test_a_fault_in_a_vendors_part(text: str, message: str) -> None:
    assert problems(f"llm: {{vendor: demo}}\ntts: {{vendor: local}}\n{text}\n") == [f"agents/a.yaml:3: {message}"]


def test_a_key_one_level_too_high_is_told_where_it_belongs() -> None:
    text = "stt: {vendor: local}\ntts: {vendor: local}\nllm:\n  vendor: demo\n  temperature: 0.3\n"
    assert problems(text) == ["agents/a.yaml:5: llm.temperature: unknown key; did you mean llmOptions.temperature?"]


def test_lines_are_right_inside_of_wrappers_and_lists() -> None:
    text = "agent:\n  bargeIn:\n    sticky: 7\n  llm:\n    llmOptions:\n      tools:\n        - type: function\n"
    text += "          function:\n            name: a b\n            paramaters: {}\n"
    name = "expected a name of letters, digits, - and _, got 'a b'"
    assert problems(text) == [
        "agents/a.yaml:3: agent.bargeIn.sticky: expected true or false, got 7",
        "agents/a.yaml:9: agent.llm.llmOptions.tools[0].function.name: " + name,
        "agents/a.yaml:10: agent.llm.llmOptions.tools[0].function.paramaters: unknown key; did you mean parameters?",
    ]


def test_all_problems_of_all_files_come_at_once() -> None:
    Path("agents/b.json").write_text('{\n\t"speak": "maybe"\n}')
    Path("agents/c.yml").write_text("greeting: {texd: x}\n")
    Path("agentd.yaml").write_text("server: {prot: 1}\n")
    assert problems("speak: 1\nhello: 2\nhello: 3\nspeak: 4\n") == [
        "agentd.yaml:1: server.prot: unknown key; did you mean port?",
        "agents/a.yaml:3: hello: duplicate key; it stands on line 2 already",
        "agents/a.yaml:4: speak: duplicate key; it stands on line 1 already",
        "agents/b.json:2: speak: expected true or false, got 'maybe'",
        "agents/c.yml:1: greeting.texd: unknown key; did you mean text?",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("server: {port: 70000}", "1: server.port: expected a port from 0 to 65535, got 70000"),
        ("server: {drainSeconds: 1}", "1: server.drainSeconds: unknown key; did you mean drain_seconds?"),
        ("events: {names: all}", "1: events.names: expected guide, sdk or both, got 'all'"),
        ("apps: {desk: 127.0.0.1}", "1: apps.desk: expected an http, https, ws or wss URL, got '127.0.0.1'"),
        ("apps: {a/b: 'ws://h/'}", "1: apps.a/b: expected a name of letters, digits, - and _, got 'a/b'"),
        ("redis: localhost", "1: redis: expected a redis, rediss or unix URL, got 'localhost'"),
        ("credentials: {depgram: {apiKey: x}}", "1: credentials.depgram: unknown vendor; did you mean deepgram?"),
        (
            "credentials: {openai: [{apiKey: x}, {apiKey: y}]}",
            "1: credentials.openai: expected a different label in each",
        ),
        (
            "defaults: {llm: {vendor: opnai}}",
            "1: defaults.llm.vendor: expected the name of a vendor for llm, got 'opnai'; did you mean openai?",
        ),
        ("agents: nowhere", " agents: expected a folder, nowhere is none"),
    ],
)
def test_a_fault_in_the_servers_own_file(text: str, message: str) -> None:
    assert problems(text, file="agentd.yaml") == [f"agentd.yaml:{message}"]


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("agents/a.yaml", "", "agents/a.yaml: the file is empty"),
        ("agents/a.json", " ", "agents/a.json: the file is empty"),
        ("agents/a.yaml", "# nothing yet\n", "agents/a.yaml: the file is empty"),
        ("agents/a.yaml", "- verb: agent\n", "agents/a.yaml:1: expected keys and values at the top, got a list"),
        ("agents/a.yaml", "agent", "agents/a.yaml:1: expected keys and values at the top, got a single value"),
        ("agents/a.yaml", b"\x00\x01PNG", "agents/a.yaml: expected text in UTF-8, got a binary file"),
        ("agents/a.yaml", b"\xff\xfe", "agents/a.yaml: expected text in UTF-8, got a binary file"),
        ("agents/a.json", '{\n"speak": tru}', "agents/a.json:2: not valid JSON: expecting value"),
        ("agents/a b.yaml", "{}", "agents/a b.yaml: expected a file name of letters, digits, - and _, got 'a b'"),
        ("agents/a.yaml", "[" * 1000, "agents/a.yaml: not valid YAML: nested too deeply"),
        ("agents/a.json", "[" * 200000, "agents/a.json: not valid JSON: nested too deeply"),
    ],
)
def test_a_file_that_is_no_configuration_at_all(file: str, text: str | bytes, message: str) -> None:
    assert problems(text, file=file) == [message]


def test_a_missing_file_and_a_directory_are_named(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"^nowhere\.yaml: no such file$"):
        load(Path("nowhere.yaml"))
    with pytest.raises(ConfigError, match=r"^agents: expected a file, got a directory$"):
        load(folder / "agents")


def test_two_files_of_one_agent_are_refused() -> None:
    Path("agents/a.json").write_text(
        '{"stt": {"vendor": "local"}, "llm": {"vendor": "demo"}, "tts": {"vendor": "local"}}'
    )
    assert problems(VENDOR_LINES) == ["agents/a.yaml: expected one file per agent, got a.json as well"]


@pytest.mark.parametrize(
    "text",
    [
        f"llm: {{auth: {CANARY}}}",
        f"llm: {{auth: [{CANARY}]}}",
        f"llm: {{apiKey: {CANARY}}}",
        f"llm: {{auth: {{apiKey: {CANARY}}}, temprature: 1}}",
        f"llm:\n  auth: {{apiKey: {CANARY}\n  model: x",
        f"llm: {{auth: {{apiKey: {CANARY}}}}}\nllm: {{auth: {{apiKey: {CANARY}}}}}",
        f"toolHook: {{url: /x, password: [{CANARY}]}}",
        f"toolHook: {{url: /x, basicAuth: {CANARY}}}",
        f"mcpServers: [{{url: 'ftp://u:{CANARY}@h/?key={CANARY}'}}]",
        f"mcpServers: [{{url: 'https://h/', auth: {CANARY}}}]",
        f"noiseIsolation: {{mode: krisp, auth: {CANARY}}}",
        f"speak: {CANARY}\nllm: {{auth: {{apiKey: {CANARY}}}",
        "noResponseTimeout: ${SECRET}",
        "turnDetection: ${SECRET}",
        "stt: {vendor: '${SECRET}'}",
        f"credentials: {{openai: {CANARY}}}",
    ],
)
def test_no_message_shows_a_secret(text: str) -> None:
    lines = problems(text, env={"SECRET": CANARY})
    shown = [line for line in lines if not line.endswith(f"speak: expected true or false, got {CANARY!r}")]
    assert CANARY not in "\n".join(shown)


def test_what_a_variable_held_is_not_shown() -> None:
    assert problems(VENDOR_LINES + "noResponseTimeout: ${WAIT}\n", env={"WAIT": CANARY}) == [
        "agents/a.yaml:4: noResponseTimeout: expected a number of seconds ≥ 0, got the value of ${WAIT}"
    ]
