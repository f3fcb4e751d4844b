"""What the README and the docs say is so."""

import re
from pathlib import Path

import pytest

from agentd.cli import _parser
from agentd.load import load
from config.problems import ConfigError

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^ *```{language}\n(.*?)^ *```", page.read_text(), re.DOTALL | re.MULTILINE)


def configuration(text: str) -> str:
    lines = text.splitlines()
    indent = min(len(line) - len(line.lstrip()) for line in lines if line.strip())
    return "\n".join(line[indent:] for line in lines)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_agent_and_server_file_shown_is_sound(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    (tmp_path / "agents").mkdir()
    server: list[str] = []  # all that the page says of it
    for number, block in enumerate(map(configuration, blocks(page, "yaml"))):
        if block.startswith("# agentd.yaml"):
            server.append(block)
        else:
            (tmp_path / f"agents/agent-{number}.yaml").write_text(block)
    if server:
        (tmp_path / "agentd.yaml").write_text("\n".join(server))
    monkeypatch.chdir(tmp_path)
    try:
        load(None)
    except ConfigError as exc:
        pytest.fail(str(exc))


def test_the_readme_has_two_commands_one_line_each() -> None:
    demo, tests = (block.strip() for block in blocks(ROOT / "README.md", "sh"))
    assert demo.endswith("agentd demo") and tests.endswith("python -m tests")
    assert "\n" not in demo + tests


def test_ci_runs_the_readmes_test_command() -> None:
    pattern = re.search(r"grep -m1 -E '(.*)' README.md", (ROOT / ".ci" / "run").read_text())
    assert pattern is not None
    (_, tests) = (block.strip() for block in blocks(ROOT / "README.md", "sh"))
    assert [line for line in (ROOT / "README.md").read_text().splitlines() if re.match(pattern[1], line)] == [tests]


def test_every_command_shown_exists() -> None:
    shown = {name for page in PAGES for name in re.findall(r"`agentd ([a-z]+)", page.read_text())}
    known = set(_parser()._subparsers._group_actions[0].choices)  # type: ignore[union-attr, arg-type]
    assert shown == known


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_to_a_file_leads_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
        assert (page.parent / link).exists(), link
