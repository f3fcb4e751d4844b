"""The wheel, as pip leaves it on someone's machine."""

import fcntl
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with nothing in it but the installed wheel: one for all processes that run tests."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "wheel"
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "site").exists():
            install_in(folder)
    return folder / "site"


def install_in(folder: Path) -> None:
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    build = ["wheel", "--no-deps", "--no-build-isolation", "-w", str(folder), str(ROOT)]
    subprocess.run([*pip, *build], check=True, capture_output=True)
    (wheel,) = folder.glob("agentd-*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--target", str(folder / "site"), str(wheel)], check=True)


def python(site: Path, code: str) -> str:
    """Run code that sees this installation before the repository."""
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(site)!r}); {code}"]
    return subprocess.run(command, check=True, capture_output=True, text=True, cwd=site.parent).stdout


def test_it_leaves_only_agentd_in_site_packages(site: Path) -> None:
    assert sorted(p.name for p in site.iterdir() if not p.name.endswith(".dist-info")) == ["agentd", "bin"]


def test_its_private_packages_are_found_by_their_plain_names(site: Path) -> None:
    code = "import agentd, config, turn, providers.stt.local; print(agentd.__file__); print(config.__file__)"
    agentd, config = python(site, code).split()
    assert agentd == str(site / "agentd" / "__init__.py")
    assert config == str(site / "agentd" / "_packages" / "config" / "__init__.py")


def test_the_built_in_agent_comes_with_it(site: Path) -> None:
    assert python(site, "from agentd.cli import main; main(['verb', 'demo'])").startswith("{")


def test_the_console_comes_with_it(site: Path) -> None:
    page = Path("agentd") / "console" / "page"
    names = sorted(path.name for path in (ROOT / page).iterdir())
    assert "index.html" in names and sorted(path.name for path in (site / page).iterdir()) == names


def test_it_holds_no_tests_and_no_benchmarks(site: Path) -> None:
    (wheel,) = site.parent.glob("agentd-*.whl")
    with zipfile.ZipFile(wheel) as files:
        names = files.namelist()
    assert not [name for name in names if "tests/" in name or "benchmarks/" in name]
