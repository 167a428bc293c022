"""What may stand in the repository, and that its locked lists are whole."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^ ;\\]+)", re.MULTILINE)
# Written in two parts, so that this file does not hold what it looks for.
NOT_HERE = re.compile(
    "|".join(
        (
            "pypi" + r"\.org/simple",
            "files" + r"\.pythonhosted\.org",
            "--" + "(extra-)?index-url ",
            "/" + r"root/",
            "/" + r"work/(main|shared)",
            "/" + r"opt/(wheels|pypi)",
            "file:" + r"///(opt|work|home)",
        )
    )
)


def tracked() -> list[Path]:
    try:
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout.decode()
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]


def test_no_registry_address_and_no_machine_path() -> None:
    found = []
    for path in tracked():
        text = path.read_bytes().decode("utf-8", "replace")
        found += [f"{path.relative_to(ROOT)}: {match.group()}" for match in NOT_HERE.finditer(text)]
    assert found == []


def test_nothing_that_a_build_makes_is_tracked() -> None:
    made = {".pyc", ".db", ".whl", ".egg-info", ".so"}
    assert [path.name for path in tracked() if path.suffix in made or "__pycache__" in path.parts] == []


def pins(name: str) -> dict[str, str]:
    text = (ROOT / "requirements" / f"{name}.txt").read_text("utf-8")
    return {canonicalize_name(package): version for package, version in PIN.findall(text)}


def wanted(project: Path, *extras: str) -> set[Requirement]:
    data = tomllib.loads(project.read_text("utf-8"))
    listed = list(data["project"].get("dependencies", ())) + data["build-system"]["requires"]
    for extra in extras:
        listed += data["project"]["optional-dependencies"][extra]
    return {requirement for text in listed if not (requirement := Requirement(text)).name.startswith("flowcraft")}


@pytest.mark.parametrize(("name", "extras"), [("demo", ()), ("dev", ("dev",)), ("bench", ("bench",)), ("crewai", ("crewai",))])
def test_locked_list_holds_what_the_projects_ask_for(name: str, extras: tuple[str, ...]) -> None:
    locked = pins(name)
    asked = wanted(ROOT / "pyproject.toml", *extras)
    for project in (ROOT / "plugins").glob("*/pyproject.toml"):
        asked |= wanted(project)
    missing = [str(asks) for asks in asked if not asks.specifier.contains(locked.get(canonicalize_name(asks.name), "0.dev0"))]
    assert missing == [], "run `make lock`"


@pytest.mark.parametrize("name", ["demo", "dev", "bench", "crewai"])
def test_every_pin_is_hashed_and_no_address_is_named(name: str) -> None:
    text = (ROOT / "requirements" / f"{name}.txt").read_text("utf-8")
    entries = re.split(r"\n(?=\S)", text.strip())
    assert len(entries) >= len(pins(name)) > 20
    for entry in entries:
        assert re.fullmatch(r"[A-Za-z0-9._-]+==\S+( ; [^\\]+?)? \\(\n    --hash=sha256:[0-9a-f]{64}( \\)?)+", entry), entry[:80]


def test_the_locked_lists_agree() -> None:
    demo, dev, bench = pins("demo"), pins("dev"), pins("bench")
    assert demo.items() <= dev.items()
    # Those with whom we compare ourselves need an earlier version of one SDK, so they have an environment of their own.
    assert {name for name in demo if bench[name] != demo[name]} == {"openai"}


def test_the_demo_installs_no_test_tools() -> None:
    assert pins("demo").keys() & {"pytest", "mypy", "ruff", "coverage", "mkdocs", "crewai", "langgraph"} == set()


def test_ci_runs_what_a_newcomer_runs() -> None:
    script = (ROOT / ".ci" / "run").read_text("utf-8")
    commands = [line for line in script.splitlines() if line and not line.startswith(("#", "set ", "cd "))]
    assert commands == ["exec make test"]
    assert (ROOT / ".ci" / "run").stat().st_mode & 0o111
