"""Recordings as tests of a user's own project: collected by pytest, replayed, failures readable."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys

import pytest

pytest_plugins = ["pytester"]
pytestmark = pytest.mark.integration

MODULE = "flowcraft.testing.recordings"
FLOW = 'flowcraft: 1\ninputs: {topic: string = rain}\nstages:\n  ask:\n    prompt: "What of ${{ inputs.topic }}?"\n'


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """A folder with a recorded workflow."""
    path = tmp_path_factory.mktemp("recorded")
    (path / "flows").mkdir()
    (path / "flows/ask.yaml").write_text(FLOW)
    # In a process of its own: what is imported while pytester is at work it takes out again.
    command = [sys.executable, "-m", "flowcraft", "run", "flows/ask.yaml", "--record"]
    ended = subprocess.run(command, cwd=path, capture_output=True, text=True, check=True)
    assert "recorded: flows/ask.recorded.sqlite" in ended.stderr.splitlines()
    return path / "flows"


@pytest.fixture
def user(pytester, monkeypatch, recorded):
    """A project of a user's own with a recorded workflow in a folder of it."""
    monkeypatch.chdir(pytester.path)
    shutil.copytree(recorded, pytester.path / "flows")
    return pytester


def run(pytester, *arguments):
    return pytester.runpytest_subprocess("-p", "no:cacheprovider", "-p", MODULE, *arguments)


def test_a_recording_is_a_test(user):
    result = run(user, "-v")

    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["flows/ask.recorded.sqlite::replay PASSED*"])


def test_a_failure_is_the_diff_and_no_traceback(user):
    (user.path / "flows/ask.yaml").write_text(FLOW.replace("What of", "Tell of"))

    result = run(user)

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "*replay of ask*",
            "*ask.yaml:5:5: ask: the prompt differs from the recording",
            "--- prompt (recorded)",
            "+++ prompt (now)",
            "-What of rain?",
            "+Tell of rain?",
        ]
    )
    result.stdout.no_fnmatch_line("*Traceback*")
    result.stdout.no_fnmatch_line("*recordings.py*")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (FLOW.replace("prompt", "promt"), "*ask.yaml:5:5: unknown key 'promt'*"),
        (None, "there is no workflow ask.yaml beside *"),
    ],
)
def test_a_file_that_is_wrong_or_missing_is_told(user, text, told):
    path = user.path / "flows/ask.yaml"
    path.unlink() if text is None else path.write_text(text)

    result = run(user)

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([told])
    result.stdout.no_fnmatch_line("*Traceback*")


def test_a_damaged_recording_is_told(user):
    (user.path / "flows/ask.recorded.sqlite").write_text("nothing")

    result = run(user)

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*is no export of a run: it is no SQLite file*"])


@pytest.mark.parametrize("options", [("--import-mode=importlib", "--doctest-modules"), ("-n", "2"), ("-k", "own or replay")])
def test_a_foreign_file_of_that_name_is_left_alone_however_pytest_is_called(user, options):
    (user.path / "tape.recorded.sqlite").write_text("another program's")
    with sqlite3.connect(user.path / "video.recorded.sqlite") as connection:
        connection.execute("CREATE TABLE frames (number)")
    user.mkdir("folder.recorded.sqlite")
    user.makepyfile(own="def f():\n    '>>> f()\\n1'\n    return 1\n", test_own="def test_own(): pass")

    result = run(user, *options)

    result.assert_outcomes(passed=2 + ("--doctest-modules" in options))


def test_a_test_of_ones_own_calls_it_or_takes_the_fixture(user):
    user.makepyfile(
        test_own="""
        from flowcraft.testing import replay as replayed

        def test_function():
            assert "rain" in replayed("flows/ask.yaml").outputs["ask"]

        def test_fixture(replay):
            assert replay("flows/ask.yaml").state == "done"

        async def inside():
            return replayed("flows/ask.yaml").same

        def test_inside_a_loop():
            import asyncio
            assert asyncio.run(inside())

        def test_other_input(replay):
            replay("flows/ask.yaml", inputs={"topic": "snow"})
        """
    )

    result = run(user, "test_own.py")

    result.assert_outcomes(passed=3, failed=1)
    result.stdout.fnmatch_lines(["E *ask: the prompt differs from the recording", "E *+What of snow?"])
    result.stdout.no_fnmatch_line("*in replay*")


def test_a_project_without_recordings_loads_nothing_of_flowcraft(pytester):
    pytester.makepyfile(
        """
        import sys

        def test_nothing_heavy_is_there():
            ours = {name for name in sys.modules if name.startswith("flowcraft")}
            assert ours <= {"flowcraft", "flowcraft.testing", "flowcraft.testing.recordings"}, ours
        """
    )

    run(pytester).assert_outcomes(passed=1)


def test_a_conftest_may_name_it(user):
    user.makeconftest(f"pytest_plugins = [{MODULE!r}]")

    user.runpytest_subprocess("-p", "no:cacheprovider").assert_outcomes(passed=1)


def test_who_does_not_name_it_goes_without_and_pytest_rewrites_none_of_our_modules(user):
    user.makepyfile(
        test_own="""
        def test_loaders(pytestconfig):
            import flowcraft.app.flowcraft
            assert type(flowcraft.app.flowcraft.__loader__).__name__ == "SourceFileLoader"
            assert not pytestconfig.pluginmanager.hasplugin("flowcraft.testing.recordings")
        """
    )

    user.runpytest_subprocess("-p", "no:cacheprovider").assert_outcomes(passed=1)


def test_a_contracts_failure_shows_the_values(pytester):
    pytester.makepyfile(
        """
        from flowcraft.testing import FakeProvider, PooledContract

        class Rude(FakeProvider):
            async def chat(self, model, request):
                answer = await super().chat(model, request)
                return type(answer)(text="Go away.", model=model)

        class TestRude(PooledContract):
            def provider(self, server):
                return Rude()
        """
    )

    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", "-k", "returns_text")

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*assert 'Go away.' == 'Fine, thanks.'*"])


def test_importing_it_costs_next_to_nothing():
    code = f"import sys, pytest, {MODULE}; print(*(name for name in sys.modules if name.startswith('flowcraft')))"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()

    assert set(told) == {"flowcraft", "flowcraft.testing", MODULE}
