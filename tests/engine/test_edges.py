"""Edges: odd functions, odd values, odd moments."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from flowcraft.events import GoFailed, StageFinished

pytestmark = pytest.mark.integration

CLI = [sys.executable, "-m", "flowcraft"]


def cli(project, *arguments, **env):
    return subprocess.run(
        [*CLI, *arguments], cwd=project.path, env={**os.environ, **env}, capture_output=True, text=True, timeout=60, check=False
    )


def state_of(project):
    with sqlite3.connect(project.path / "flowcraft.db") as connection:
        return connection.execute("SELECT state FROM runs ORDER BY created DESC LIMIT 1").fetchone()[0]


CANCELLED = """
    import asyncio
    async def wait():
        task = asyncio.create_task(asyncio.sleep(9))
        task.cancel()
        await task
    def sync():
        raise asyncio.CancelledError
"""


@pytest.mark.parametrize("function", ["wait", "sync"])
async def test_function_that_raises_cancelled_error_fails_its_stage(project, function):
    project.steps(CANCELLED)

    result = await project.run(f'stages: {{a: {{run: "steps:{function}"}}, b: {{needs: [a], run: "steps:sync"}}}}')

    assert result.state == "failed"
    assert result.stages["a"]["state"] == "failed"


async def test_element_that_raises_cancelled_error_is_no_null(project):
    project.steps(CANCELLED)

    result = await project.run('stages: {a: {each: [1, 2, 3], parallel: 2, run: "steps:wait"}}')

    assert result.state == "failed"


def test_function_that_exits_fails_its_stage(project):
    project.steps("import sys\ndef leave():\n    sys.exit(3)\n")
    project.write("flow.yaml", 'flowcraft: 1\nstages: {a: {run: "steps:leave"}}\n')

    ended = cli(project, "run", "flow.yaml", "--json")

    assert "Traceback" not in ended.stderr
    assert json.loads(ended.stdout)["state"] == "failed"
    assert state_of(project) == "failed"


async def test_tries_of_a_stage_are_the_same_after_resume(project):
    workflow = f"""
        stages:
          a: {{run: "steps:note", with: {{word: a}}}}
          b: {{run: "steps:note", with: {{word: "${{{{ run.stages.a.tries }}}}"}}}}
          c: {{needs: [b], run: "steps:fail_until", with: {{path: "{project.path}/now"}}}}
    """
    failed = await project.run(workflow)
    project.write("now", "")

    assert (await project.resume(failed.run)).error == ""


async def test_errors_of_a_list_are_the_same_after_resume(project):
    project.steps("""
        import asyncio, pathlib
        async def bad(number):
            await asyncio.sleep((3 - number) * 0.02)
            raise ValueError(number)
        def keep(value):
            return value
        def fail_until(path):
            if not pathlib.Path(path).exists():
                raise ValueError("not yet")
    """)
    failed = await project.run(f"""
        stages:
          a: {{each: [0, 1, 2], parallel: 3, run: "steps:bad", with: {{number: "${{{{ item }}}}"}}, on_error: continue}}
          b: {{run: "steps:keep", with: {{value: "${{{{ run.stages.a.errors }}}}"}}}}
          c: {{needs: [b], run: "steps:fail_until", with: {{path: "{project.path}/now"}}}}
    """)
    project.write("now", "")

    assert (await project.resume(failed.run)).error == ""


async def test_model_of_a_stage_is_told_to_others(project):
    result = await project.ask("""
        stages:
          ask: {prompt: hello}
          told: {run: "steps:note", with: {word: "${{ run.stages.ask.model }}"}}
    """)

    assert result.outputs["told"] is not None


async def test_value_that_cannot_be_kept_is_a_failure_that_continue_catches(project):
    project.steps("def pick(number):\n    return {1} if number == 2 else number\n")

    result = await project.run("""
        stages:
          items: {each: [1, 2, 3], run: "steps:pick", with: {number: "${{ item }}"}, on_error: continue}
    """)

    assert result.outputs == {"items": [1, None, 3]}


async def test_expression_that_fails_for_one_element_is_a_failure_that_continue_catches(project):
    result = await project.run(
        """
        inputs: {things: any}
        stages:
          items: {each: inputs.things, when: item > 1, run: "steps:note", with: {word: "w${{ item }}"}, on_error: continue}
    """,
        things=[2, "x", 3],
    )

    assert result.outputs == {"items": ["w2", None, "w3"]}


@pytest.mark.parametrize(
    "body", ["value = []\n    for _ in range(990): value = [value]\n    return value", "raise ValueError('x' * 10_000_001)"]
)
async def test_failure_of_any_size_is_one_that_continue_catches(project, body):
    project.steps(f"def odd():\n    {body}\n")

    result = await project.run('stages: {a: {run: "steps:odd", on_error: continue}}')

    assert result.state == "done"


async def test_outputs_that_fail_below_uses_do_not_begin_its_stages_anew(project):
    project.write(
        "part.yaml",
        """
        flowcraft: 1
        stages:
          one: {run: "steps:note", with: {word: one}}
          thing: {run: "steps:thing"}
        outputs: {one: "${{ one }}", bad: "${{ thing.a > 1 }}"}
    """,
    )
    project.write("steps.py", (project.path / "steps.py").read_text() + "\ndef thing():\n    return {'a': 'x'}\n")
    failed = await project.run("stages: {part: {uses: ./part.yaml}}")
    assert failed.state == "failed"

    await project.resume(failed.run)

    assert project.marks() == ["one"]


async def test_group_of_errors_tells_what_happened(project):
    project.steps("""
        import asyncio
        async def bad():
            raise ValueError("the real reason")
        async def both():
            async with asyncio.TaskGroup() as group:
                group.create_task(bad())
    """)

    result = await project.run('stages: {a: {run: "steps:both"}}')

    assert "the real reason" in result.error
    assert "steps.py" in result.error


async def test_place_of_an_error_is_in_the_users_code(project):
    project.steps("import json\ndef read():\n    return json.loads('no')\n")

    result = await project.run('stages: {a: {run: "steps:read"}}')

    assert "steps.py:3" in result.error


async def test_import_that_takes_long_holds_up_nobody(project):
    project.write(
        "slow.py",
        """
        import pathlib, time
        until = time.monotonic() + 60
        while not pathlib.Path(__file__).with_name("made").exists():
            assert time.monotonic() < until, "the other stage was held up"
            time.sleep(0.01)
        def f():
            return 1
        """,
    )

    result = await project.run('stages: {a: {run: "slow:f"}, b: {run: "os:mkdir", with: {path: made}}}')

    assert result.error == ""


async def test_cancelled_resume_does_not_take_the_run(project):
    """Ctrl-C while another process is watched: the run stays with its owner."""
    failed = await project.run('stages: {bad: {run: "steps:fail"}}')
    with sqlite3.connect(project.path / "flowcraft.db") as connection:
        connection.execute("UPDATE runs SET state = 'running', owner = 'far'")
        connection.execute("INSERT INTO processes (id, host, pid, beat) VALUES ('far', 'elsewhere', 1, 1)")
    connection.close()
    watching = asyncio.Event()
    loop = asyncio.get_running_loop()
    flow = project.open()
    async with flow:
        task = asyncio.create_task(flow.resume(failed.run, on_wait=lambda process: loop.call_soon_threadsafe(watching.set)))
        await asyncio.wait_for(watching.wait(), 60)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        with sqlite3.connect(project.path / "flowcraft.db") as connection:
            connection.execute("DELETE FROM processes WHERE id = 'far'")  # it ends while nobody wants the run any more
        connection.close()
        await asyncio.sleep(1)

    with sqlite3.connect(project.path / "flowcraft.db") as connection:
        assert connection.execute("SELECT owner, epoch FROM runs").fetchone() == ("far", 1)


async def test_secret_that_is_a_word_of_the_file_does_not_spoil_the_resume(project, monkeypatch):
    monkeypatch.setenv("MODE", "production")
    failed = await project.run(f"""
        env: [MODE]
        stages:
          production: {{run: "steps:note", with: {{word: "${{{{ env.MODE }}}}"}}}}
          flaky: {{needs: [production], run: "steps:fail_until", with: {{path: "{project.path}/now"}}}}
    """)
    project.write("now", "")

    assert (await project.resume(failed.run)).done


async def test_secret_that_is_a_folder_of_the_path_does_not_spoil_the_resume(project, monkeypatch):
    monkeypatch.setenv("WHERE", str(project.path))
    failed = await project.run("""
        env: [WHERE]
        stages:
          first: {run: "steps:note", with: {word: "${{ env.WHERE }}"}}
          flaky: {needs: [first], run: "steps:fail_until", with: {path: "now"}}
    """)
    project.write("now", "")

    assert (await project.resume(failed.run)).done


async def test_go_after_resume_is_counted_on(project):
    """Three goes fail, resume: go 4 fails and is recorded, the process ends in the pause; what follows is go 5."""
    failed = await project.run('stages: {bad: {run: "steps:fail", retry: {max: 2, backoff: 1ms}}}')
    with sqlite3.connect(project.path / "flowcraft.db") as connection:
        snapshot = json.loads(connection.execute("SELECT snapshot FROM documents").fetchone()[0])
        files = {name: text.replace("1ms", "5m") for name, text in snapshot["files"].items()}
        connection.execute("UPDATE documents SET snapshot = ?", (json.dumps({**snapshot, "files": files}),))
    connection.close()
    for _ in range(2):
        flow = project.open()
        paused = asyncio.Event()
        flow.subscribe(lambda event, paused=paused: paused.set() if isinstance(event, GoFailed) else None)
        async with flow:
            task = asyncio.create_task(flow.resume(failed.run))
            await asyncio.wait_for(paused.wait(), 60)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    assert [event.go for event in project.events if isinstance(event, GoFailed)] == [1, 2, 4, 5]


async def test_lazy_import_takes_the_module_of_its_own_folder(project):
    for folder, name in (("", "here"), ("other/", "other")):
        project.write(f"{folder}shared.py", f"NAME = '{name}'\n")
        project.write(f"{folder}steps.py", "def where():\n    import shared\n    return shared.NAME\n")
    project.write("other/part.yaml", 'flowcraft: 1\nstages:\n  there: {run: "steps:where"}\n')

    result = await project.run("""
        stages:
          here: {run: "steps:where"}
          part: {needs: [here], uses: ./other/part.yaml}
        outputs: {here: "${{ here }}", part: "${{ part.there }}"}
    """)

    assert result.outputs == {"here": "here", "part": "other"}


async def test_function_may_hand_its_module_to_other_processes(project):
    project.write(
        "apart.py",
        """
        from concurrent.futures import ProcessPoolExecutor
        import multiprocessing
        def square(number):
            return number * number
        def squares():
            with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
                return list(pool.map(square, [1, 2]))
    """,
    )

    result = await project.run('stages: {a: {run: "apart:squares"}}')

    assert result.error == ""


def test_code_beside_a_package_that_is_imported_relatively_counts(project):
    from flowcraft.engine.pieces.sources import code_digest

    project.write("pkg/__init__.py", "")
    project.write("pkg/inner.py", "VALUE = 1\n")
    project.write("pkg/mod.py", "from .inner import VALUE\nfrom . import inner\ndef get():\n    return VALUE\n")
    before = code_digest(str(project.path), "pkg.mod")
    project.write("pkg/inner.py", "VALUE = 2\n")

    assert code_digest(str(project.path), "pkg.mod") != before


def test_digest_of_installed_code_does_not_depend_on_what_is_imported(project):
    told = "import sys; from flowcraft.engine.pieces.sources import code_digest; {}; print(code_digest('.', 'wsgiref.util'))"
    digests = {
        subprocess.run([sys.executable, "-c", told.format(first)], capture_output=True, text=True, check=True).stdout
        for first in ("pass", "import wsgiref.util")
    }

    assert len(digests) == 1


def test_process_name_that_is_cut_within_a_letter_is_no_error(project):
    script = project.write("обработка_данных.py", f"#!{sys.executable}\nfrom flowcraft import FlowCraft\nFlowCraft()\n")
    script.chmod(0o755)

    ended = subprocess.run([str(script)], cwd=project.path, capture_output=True, text=True, check=False)

    assert ended.returncode == 0, ended.stderr


def test_json_is_one_document_though_a_function_prints(project):
    project.steps("def talk():\n    print('hello')\n    return 1\n")
    project.write("flow.yaml", 'flowcraft: 1\nstages: {a: {run: "steps:talk"}}\n')

    assert json.loads(cli(project, "run", "flow.yaml", "--json").stdout)["state"] == "done"


def test_lone_surrogate_is_printed(project):
    project.steps("def odd():\n    return 'a\\ud800b'\n")
    project.write("flow.yaml", 'flowcraft: 1\nstages: {a: {run: "steps:odd"}}\n')

    ended = cli(project, "run", "flow.yaml", PYTHONIOENCODING="utf-8")

    assert ended.returncode == 0, ended.stderr


def test_run_ends_though_nobody_reads_its_progress(project):
    project.write("flow.yaml", 'flowcraft: 1\nstages: {a: {run: "steps:note", with: {word: a}}}\n')
    read, write = os.pipe()
    os.close(read)

    subprocess.run([*CLI, "run", "flow.yaml"], cwd=project.path, stdout=subprocess.DEVNULL, stderr=write, check=False)
    os.close(write)

    assert state_of(project) == "done"


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_signal_ends_the_command_that_reads_its_input(project, sign):
    project.write(
        "flow.yaml", 'flowcraft: 1\ninputs: {t: string}\nstages: {a: {run: "steps:note", with: {word: "${{ inputs.t }}"}}}\n'
    )
    process = subprocess.Popen([*CLI, "run", "flow.yaml", "-i", "t=@-"], cwd=project.path, stdin=subprocess.PIPE)
    call = Path(f"/proc/{process.pid}/syscall")
    until = time.monotonic() + 60
    try:
        while not call.read_text().startswith("0 0x0 "):  # 0 is read(2), of file 0: it waits for its input
            assert time.monotonic() < until, "it does not read its input"
            time.sleep(0.05)
        process.send_signal(sign)
        assert process.wait(60) == 130
    finally:
        process.kill()
        process.communicate()


async def test_cancel_at_the_last_write_tells_what_was_written(project):
    """The run is done; only writing that down takes a while. Either the caller is told so, or it is not written as done."""
    path = project.write("flow.yaml", 'flowcraft: 1\nstages: {a: {run: "steps:note", with: {word: a}}}\n')
    flow = project.open()
    lock = sqlite3.connect(project.path / "flowcraft.db", isolation_level=None, check_same_thread=False)
    ended = asyncio.Event()

    def hold(event):
        if isinstance(event, StageFinished):
            lock.execute("BEGIN IMMEDIATE")
            ended.set()

    flow.subscribe(hold)
    async with flow:
        task = asyncio.create_task(flow.run(path))
        await asyncio.wait_for(ended.wait(), 60)
        await asyncio.sleep(0.05)
        task.cancel()
        await asyncio.sleep(0.05)
        lock.execute("ROLLBACK")
        lock.close()
        try:
            told = (await task).state
        except asyncio.CancelledError:
            told = "interrupted"

    assert told == state_of(project)


async def test_cancel_while_the_run_is_created_leaves_no_run_that_seems_to_go_on(project):
    path = project.write("flow.yaml", 'flowcraft: 1\nstages: {a: {run: "steps:note", with: {word: a}}}\n')
    flow = project.open()
    assert flow.engine.store.list() == []
    lock = sqlite3.connect(project.path / "flowcraft.db", isolation_level=None)
    lock.execute("BEGIN IMMEDIATE")
    async with flow:
        task = asyncio.create_task(flow.run(path))
        await asyncio.sleep(0.1)
        task.cancel()
        await asyncio.sleep(0.05)
        lock.execute("ROLLBACK")
        lock.close()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    with sqlite3.connect(project.path / "flowcraft.db") as connection:
        assert not connection.execute("SELECT id FROM runs WHERE state = 'running'").fetchall()


async def test_functions_that_hang_do_not_starve_those_behind_them(project):
    project.steps("""
        import threading
        def hang():
            threading.Event().wait(60)
        def quick():
            return 1
    """)

    result = await project.run(f"""
        stages:
          a: {{each: {list(range(70))}, parallel: 70, run: "steps:hang", timeout: 200ms, on_error: continue}}
          b: {{needs: [a], run: "steps:quick", timeout: 30s}}
        outputs: {{b: "${{{{ b }}}}"}}
    """)

    assert result.outputs == {"b": 1}


async def test_retry_asks_who_owns_the_run_before_its_next_go(project):
    """While a stage pauses between two goes, somebody takes the run over: the next go is not begun."""
    path = project.write("flow.yaml", 'flowcraft: 1\nstages: {a: {run: "steps:fail", retry: {max: 1, backoff: 1ms}}}\n')
    flow = project.open()

    def steal(event):
        if isinstance(event, GoFailed):
            with sqlite3.connect(project.path / "flowcraft.db", timeout=30) as connection:
                connection.execute("UPDATE runs SET epoch = epoch + 1, owner = 'somebody'")
            connection.close()
            flow.engine.owner._beaten -= 60  # the process stood still meanwhile

    flow.subscribe(steal)
    async with flow:
        with contextlib.suppress(Exception):
            await flow.run(path)

    assert project.marks() == ["failed"]


def test_model_type_whose_module_cannot_be_imported_is_refused_before_the_run_begins(project):
    project.write(
        "shapes.py", "from pydantic import BaseModel\nclass Thing(BaseModel):\n    name: str\nimport not_there_at_all\n"
    )
    project.write("flow.yaml", 'flowcraft: 1\nstages: {a: {run: "steps:note", with: {word: a}, output: "shapes:Thing"}}\n')

    ended = cli(project, "run", "flow.yaml", "--json")

    assert "a fault of FlowCraft" not in ended.stderr
    assert ended.returncode == 2
    assert "flow.yaml:2:" in ended.stderr
    assert "cannot import 'shapes': ModuleNotFoundError" in ended.stderr
    assert project.marks() == [], "nothing ran"


async def test_model_call_that_raises_cancelled_error_fails_its_stage(project):
    from flowcraft.plugin import Provider

    async def leak(self, model, request):
        raise asyncio.CancelledError

    flow = project.open(llm={"default_model": "odd:one"}, providers={"odd": {}})
    flow.register_provider("odd", type("Odd", (Provider,), {"name": "odd", "chat": leak}))
    async with flow:
        result = await project.run("stages: {a: {prompt: hello}}", flow)

    assert result.state == "failed", result
    assert "cannot be made" not in result.error
