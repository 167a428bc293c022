"""``shell``: what the page of the language says of it, each rule by its name."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from flowcraft.engine.bodies.shell import why_no_shell
from flowcraft.errors import WorkflowError

pytestmark = [pytest.mark.integration, pytest.mark.skipif(os.name == "nt", reason="no bash on Windows")]


async def value(project, stage, **inputs):
    result = await project.run(stage, **inputs)
    assert result.state == "done", result.error
    return next(iter(result.outputs.values()))


async def error(project, stage, **inputs):
    result = await project.run(stage, **inputs)
    assert result.state == "failed"
    return result.error


def alive(pid):
    """Whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def until(condition, what):
    for _ in range(6000):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"never: {what}")


async def test_result_is_exit_code_stdout_and_stderr(project):
    told = await value(project, "stages: {a: {shell: 'echo out; echo err >&2'}}")

    assert told == {"exit_code": 0, "stdout": "out\n", "stderr": "err\n"}


async def test_command_stops_at_its_first_failure(project):
    assert "exit code 1" in await error(project, "stages: {a: {shell: 'false; echo not reached'}}")


async def test_failure_inside_a_pipe_counts(project):
    assert "exit code 3" in await error(project, "stages: {a: {shell: '(exit 3) | cat'}}")


async def test_a_command_waits_for_what_it_started_itself_and_for_nothing_else(project):
    told = await value(project, "stages: {a: {shell: 'jobs; (sleep 0.05; echo slow) & wait; jobs; echo done', output: string}}")

    assert told == "slow\ndone"


async def test_an_error_names_the_line_of_the_command(project):
    told = await error(project, 'stages: {a: {shell: "true\\nno_such_command_here"}}')

    assert "line 2" in told


async def test_values_reach_the_command_as_variables_and_are_no_part_of_it(project):
    text = '"; echo broken; $(echo x) `id` \n\\ é'

    told = await value(
        project,
        """
        inputs: {text: string}
        stages: {a: {shell: 'printf %s "$text"', with: {text: "${{ inputs.text }}"}}}
        """,
        text=text,
    )

    assert told["stdout"] == text


async def test_variables_are_text_as_templates_insert_it(project):
    told = await value(
        project,
        """
        inputs: {list: "[integer]", nothing: string | null}
        stages:
          a:
            shell: 'printf "%s|%s|%s|%s" "$list" "$nothing" "$number" "$yes"'
            with: {list: "${{ inputs.list }}", nothing: "${{ inputs.nothing }}", number: 1.5, yes: true}
        """,
        list=[1, 2],
    )

    assert told["stdout"] == "[\n  1,\n  2\n]||1.5|true"


async def test_stdin_is_piped_and_no_variable(project):
    told = await value(
        project,
        """
        inputs: {text: string}
        stages: {a: {shell: 'wc -c; echo "${stdin-unset}"', with: {stdin: "${{ inputs.text }}"}}}
        """,
        text="x" * 5_000_000,
    )

    assert told["stdout"].split() == ["5000000", "unset"]


async def test_stdin_that_is_not_read_is_no_failure(project):
    told = await value(
        project, "inputs: {t: string}\nstages: {a: {shell: 'true', with: {stdin: '${{ inputs.t }}'}}}", t="x" * 1_000_000
    )

    assert told["exit_code"] == 0


async def test_without_stdin_there_is_nothing_to_read(project):
    assert (await value(project, "stages: {a: {shell: cat}}"))["stdout"] == ""


async def test_value_over_100_kb_must_be_piped(project):
    flow = "inputs: {t: string}\nstages: {a: {shell: 'echo ${#t}', with: {t: '${{ inputs.t }}'}}}"

    assert (await value(project, flow, t="x" * 100_000))["stdout"] == "100000\n"
    told = await error(project, flow, t="x" * 100_001)
    assert "the value of 't' has 100 KB" in told
    assert "with: {stdin: ...}" in told


async def test_values_too_large_together_are_refused_in_plain_words(project):
    names = [f"v{number}" for number in range(60)]
    given = ", ".join(f"{name}: '${{{{ inputs.t }}}}'" for name in names)

    told = await error(project, f"inputs: {{t: string}}\nstages: {{a: {{shell: 'true', with: {{{given}}}}}}}", t="x" * 100_000)

    assert "too large together" in told


async def test_nul_cannot_stand_in_a_variable(project):
    told = await error(project, "inputs: {t: string}\nstages: {a: {shell: 'true', with: {t: '${{ inputs.t }}'}}}", t="a\0b")

    assert "'t' holds a NUL character" in told


async def test_only_listed_names_are_inherited(project, monkeypatch):
    for name in ("OPENAI_API_KEY", "LD_PRELOAD_X", "EDITOR", "BASH_ENV"):
        monkeypatch.setenv(name, "not for commands")
    monkeypatch.setenv("https_proxy", "http://proxy")
    monkeypatch.setenv("GH_TOKEN", "of-the-file")

    told = await value(project, "env: [GH_TOKEN]\nstages: {a: {shell: 'env -0', with: {own: one}, output: string}}")

    seen = dict(entry.split("=", 1) for entry in told.split("\0") if "=" in entry)
    assert seen["own"] == "one"
    assert seen["https_proxy"] == "http://proxy"
    assert seen["GH_TOKEN"] == "***"
    assert seen["PATH"] == os.environ["PATH"]
    listed = {"PATH", "HOME", "USER", "LANG", "TZ", "TMPDIR", "SSH_AUTH_SOCK", "https_proxy", "GH_TOKEN", "own"}
    assert set(seen) - listed <= {"PWD", "SHLVL", "_", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "no_proxy"} | {
        "ALL_PROXY",
        "all_proxy",
        "OLDPWD",
    }


async def test_command_runs_in_the_folder_where_the_run_was_started(project, monkeypatch, tmp_path):
    started = tmp_path / "elsewhere"
    started.mkdir()
    monkeypatch.chdir(started)

    assert (await value(project, "stages: {a: {shell: pwd, output: string}}")) == str(started)


async def test_folder_of_the_start_is_kept_on_resume_and_said_where_it_is_gone(project, monkeypatch, tmp_path):
    started = tmp_path / "elsewhere"
    started.mkdir()
    monkeypatch.chdir(started)
    result = await project.run("stages: {a: {shell: '[ -e ready ]; pwd', output: string}}")
    assert result.state == "failed"
    monkeypatch.chdir(tmp_path)
    started.rmdir()

    with pytest.raises(WorkflowError, match=f"{started}, where it was started and which is gone"):
        await project.resume(result.run)
    started.mkdir()
    (started / "ready").touch()
    done = await project.resume(result.run)

    assert done.outputs == {"a": str(started)}


async def test_failure_shows_the_exit_code_and_the_end_of_stderr(project):
    told = await error(project, "stages: {a: {shell: 'seq 10000 >&2; echo the cause >&2; exit 7'}}")

    assert "exit code 7: ... " in told
    assert told.endswith("9999\n10000\nthe cause")
    assert len(told) < 2_200


async def test_signal_that_ended_the_command_is_named(project):
    assert "exit code 137 (ended by signal 9)" in await error(project, "stages: {a: {shell: 'kill -9 $$'}}")


async def test_continue_keeps_the_result_of_a_failed_command(project):
    flow = """
        stages:
          a: {shell: 'echo some; echo why >&2; exit 4', on_error: continue}
          b: {run: "json:dumps", with: {obj: "${{ [a.exit_code, a.stdout, run.stages.a.state] }}"}}
        outputs: {a: "${{ a }}", b: "${{ b }}"}
    """

    result = await project.run(flow)

    assert result.state == "done"
    assert result.outputs["a"] == {"exit_code": 4, "stdout": "some\n", "stderr": "why\n"}
    assert result.outputs["b"] == '[4, "some\\n", "failed"]'
    assert "exit code 4: why" in result.stages["a"]["error"]


async def test_continue_keeps_the_results_of_elements_and_a_resumed_run_has_them_still(project):
    flow = """
        stages:
          a:
            each: [0, 3]
            shell: 'echo "$code" >> "ran.txt"; exit "$code"'
            with: {code: "${{ item }}"}
            on_error: continue
          b: {needs: [a], run: "steps:fail_until", with: {path: ready}}
        outputs: {codes: ["${{ a[0].exit_code }}", "${{ a[1].exit_code }}"]}
    """
    failed = await project.run(flow)
    (project.path / "ready").touch()

    result = await project.resume(failed.run)

    assert result.outputs == {"codes": [0, 3]}
    assert (project.path / "ran.txt").read_text().split() == ["0", "3"]


async def test_continue_of_a_command_with_output_is_null(project):
    assert await value(project, "stages: {a: {shell: 'echo 1; exit 1', output: integer, on_error: continue}}") is None


async def test_output_is_one_json_value(project):
    assert await value(
        project, """stages: {a: {shell: 'echo "{\\"n\\": [1, 2], \\"x\\": 0}"', output: {n: "[integer]"}}}"""
    ) == {"n": [1, 2]}


@pytest.mark.parametrize(
    ("printed", "told"),
    [
        ("echo 1 2", "not one JSON value"),
        ("true", "printed nothing"),
        ("echo NaN", "not one JSON value"),
        ("printf '\\\\377'", "not one JSON value"),
        ("echo '\\\"x\\\"'", "integer"),
    ],
)
async def test_what_is_no_value_of_the_output_type_fails(project, printed, told):
    assert told in await error(project, f'stages: {{a: {{shell: "{printed}", output: integer}}}}')


@pytest.mark.parametrize("kind", ["string", "low | high", "string | null", "string (a word)"])
async def test_output_of_text_is_what_is_printed_trimmed(project, kind):
    assert await value(project, f"stages: {{a: {{shell: 'echo; echo \" low \"', output: {kind}}}}}") == "low"


async def test_retry_repeats_the_command_and_the_last_go_counts(project):
    told = await value(
        project, "stages: {a: {shell: 'echo x >> tries; [ $(wc -l < tries) = 3 ]', retry: {max: 2, backoff: 1ms}}}"
    )

    assert told["exit_code"] == 0
    assert (project.path / "tries").read_text() == "x\nx\nx\n"


async def test_output_over_10_mb_ends_the_command(project):
    told = await error(project, "stages: {a: {shell: 'yes'}}")

    assert "over 10 MB" in told
    assert "write a file and print its path" in told


async def test_of_stderr_the_end_is_kept(project):
    told = (await value(project, "stages: {a: {shell: 'seq 100000 >&2'}}"))["stderr"]

    assert told.startswith("... ")
    assert told.endswith("99999\n100000\n")
    assert len(told) == 100_004


async def test_timeout_ends_the_whole_group(project):
    told = await error(
        project, "stages: {a: {shell: '(trap \"\" TERM; echo $BASHPID > inner; sleep 60; sleep 60) & wait', timeout: 4s}}"
    )

    assert "timed out after 4 s" in told
    await until(lambda: not alive(int((project.path / "inner").read_text())), "the inner process ended")


async def test_command_may_tidy_up_when_it_is_told_to_end(project):
    await error(project, "stages: {a: {shell: 'trap \"echo tidy > tidied; exit\" TERM; sleep 60 & wait', timeout: 4s}}")

    assert (project.path / "tidied").read_text() == "tidy\n"


async def test_what_a_command_leaves_running_is_ended_with_it(project):
    told = await value(project, "stages: {a: {shell: 'sleep 600 >/dev/null 2>&1 & echo $!'}}")

    await until(lambda: not alive(int(told["stdout"])), "the left process ended")


async def test_what_a_command_starts_beside_itself_may_finish(project):
    told = await value(project, "stages: {a: {shell: 'echo one > >(sleep 0.3; cat)'}}")

    assert told["stdout"] == "one\n"


async def test_cancel_of_the_run_ends_the_group(project):
    async with project.open() as flow:
        path = project.write("flow.yaml", "flowcraft: 1\nstages: {a: {shell: 'sleep 600 & echo $! > left; wait'}}\n")
        left = project.path / "left"
        started: list[str] = []
        task = asyncio.ensure_future(flow.run(path, on_start=started.append))
        await until(lambda: left.exists() and left.read_text().strip(), "the command started")

        await flow.cancel(started[0])
        result = await task

    assert result.state == "cancelled"
    await until(lambda: not alive(int(left.read_text())), "the sleep ended")


async def test_secrets_are_taken_out_of_value_events_and_errors(project, monkeypatch):
    secret = "hush-hush-4711"
    monkeypatch.setenv("TOKEN", secret)

    result = await project.run("""
        env: [TOKEN]
        stages:
          a: {shell: 'echo "$T $TOKEN"; echo "$T" >&2', with: {T: "${{ env.TOKEN }}"}}
          b: {needs: [a], shell: 'seq 30000 >&2; printf "$T" >&2; exit 1', with: {T: "${{ env.TOKEN }}"}, on_error: continue}
          c: {needs: [b], shell: 'echo "$TOKEN" >&2; exit 1'}
    """)

    kept = b"".join(path.read_bytes() for path in project.path.glob("flowcraft.db*")).decode("utf-8", "replace")
    seen = kept + repr(result) + repr([event.data() for event in project.events])
    assert secret not in seen
    assert "*** ***" in seen
    assert "exit code 1: ***" in result.error


async def test_secret_that_the_cut_of_stderr_goes_through_is_taken_out_whole(project, monkeypatch):
    secret = "s3cret" * 50
    monkeypatch.setenv("TOKEN", secret)
    flow = """
        env: [TOKEN]
        stages: {a: {shell: 'printf "%s" "$TOKEN" >&2; head -c 99900 /dev/zero | tr "\\\\0" x >&2'}}
    """

    told = (await value(project, flow))["stderr"]

    assert "s3cret" not in told
    assert told.endswith("x" * 99_900)


async def test_variable_of_another_value_is_another_piece_but_a_renewed_secret_is_not(project, monkeypatch):
    monkeypatch.setenv("TOKEN", "first-token")
    failed = await project.run("""
        env: [TOKEN]
        stages:
          a: {shell: 'echo ran >> ran.txt', with: {T: "${{ env.TOKEN }}"}}
          b: {needs: [a], run: "steps:fail_until", with: {path: ready}}
    """)
    (project.path / "ready").touch()
    monkeypatch.setenv("TOKEN", "second-token")

    result = await project.resume(failed.run)

    assert result.state == "done"
    assert (project.path / "ran.txt").read_text() == "ran\n"


def test_windows_and_a_machine_without_bash_say_so(monkeypatch, tmp_path):
    assert "does not run on Windows" in why_no_shell("nt")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "needs bash" in why_no_shell("posix")


async def test_run_on_a_machine_without_bash_is_refused_at_its_position_before_it_starts(project, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    async with project.open() as flow:
        path = project.write("flow.yaml", "flowcraft: 1\nstages:\n  a:\n    shell: echo\n")

        with pytest.raises(WorkflowError, match=r"flow.yaml:4:5: 'shell' needs bash") as raised:
            await flow.run(path)

    assert len(raised.value.problems) == 1


async def killed(project, flow):
    """Carry ``flow`` out in a process that is killed when there is a file ``left``; return the processes that it names."""
    script = f"""
import asyncio
from flowcraft import FlowCraft
from flowcraft.settings import Settings
async def main():
    async with FlowCraft(Settings(storage="sqlite:///{project.path}/flowcraft.db")) as flow:
        await flow.run("flow.yaml")
asyncio.run(main())
"""
    project.write("flow.yaml", f"flowcraft: 1\n{flow}")
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", script, cwd=project.path)
    left = project.path / "left"
    await until(lambda: left.exists() and left.read_text().endswith("\n"), "the command started")
    pids = [int(pid) for pid in left.read_text().split()]
    assert all(map(alive, pids))
    process.send_signal(signal.SIGKILL)
    await process.wait()
    return pids


async def test_run_that_is_killed_leaves_no_process_behind(project):
    pids = await killed(
        project, "stages: {a: {shell: 'sleep 600 & (trap \"\" TERM HUP; echo $! $BASHPID > left; sleep 600; sleep 600)'}}\n"
    )

    for pid in pids:
        await until(lambda pid=pid: not alive(pid), f"process {pid} ended")


async def test_run_that_is_killed_goes_on_without_what_its_commands_finished(project):
    await killed(
        project,
        """
stages:
  a: {each: [1, 2], shell: 'echo "a$n" >> ran; echo $((n * 10))', with: {n: "${{ item }}"}, output: integer}
  b: {shell: 'echo b >> ran; [ ! -e left ] || exit 0; echo $$ > left; sleep 600; echo', with: {a: "${{ a }}"}}
outputs: {a: "${{ a }}", b: "${{ b.exit_code }}"}
""",
    )
    async with project.open() as flow:
        (row,) = flow.engine.store.list()
        result = await flow.resume(row.id)

    assert result.outputs == {"a": [10, 20], "b": 0}
    assert (project.path / "ran").read_text().split() == ["a1", "a2", "b", "b"]


def test_validate_runs_nothing(project):
    path = project.write("flow.yaml", "flowcraft: 1\nstages: {a: {shell: 'touch ran'}}\n")

    told = subprocess.run(
        [sys.executable, "-m", "flowcraft", "validate", path], cwd=project.path, capture_output=True, text=True
    )

    assert told.returncode == 0, told.stderr
    assert not (project.path / "ran").exists()
