"""The engine's ground: writer, leases, threads, values, and users' modules."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from dataclasses import replace

import pytest

from flowcraft.engine import Engine, NewRun, ProcessRow
from flowcraft.engine.functions import load_function
from flowcraft.engine.lease import Owner, is_gone, this_process, watch
from flowcraft.engine.pieces.sources import code_digest
from flowcraft.engine.pieces.values import digest, stored
from flowcraft.engine.pieces.writer import Writer
from flowcraft.engine.ports import Piece, StateChange, Write
from flowcraft.engine.threads import EAGER, DaemonPool
from flowcraft.errors import RunError, RunFenced, StageFailed, StoreError
from flowcraft.events import Bus
from flowcraft.storage import Database, SqlRunStore

pytestmark = pytest.mark.integration


@pytest.fixture
def store(tmp_path):
    database = Database(f"sqlite:///{tmp_path}/flowcraft.db")
    yield SqlRunStore(database)
    database.close()


@pytest.fixture
def engine(store):
    made = Engine(store, Bus())
    yield made
    made.close()


def new(run):
    return NewRun(id=run, workflow="w", file="w.yaml", folder="/", created=1.0, inputs={}, snapshot={})


def piece(run, epoch, path):
    return Write(run=run, epoch=epoch, pieces=(Piece(path=path, what="w"),))


async def test_writer_saves_all_that_waits_and_fences_each_run_apart(store):
    writer = Writer(store)
    for run in ("a", "b"):
        store.create(new(run))
        store.begin(run, "me", 0)
    store.begin("a", "other", 1)

    outcomes = await asyncio.gather(
        *(writer.save(piece(run, 1, f"s{index}")) for index in range(20) for run in ("a", "b")), return_exceptions=True
    )
    writer.close()

    assert [type(outcome) for outcome in outcomes] == [RunFenced, type(None)] * 20
    assert store.pieces("a") == []
    assert len(store.pieces("b")) == 20


async def test_writer_tells_those_who_wait_when_the_database_fails(store):
    class Broken:
        def write(self, batch):
            raise StoreError("disk full")

    writer = Writer(Broken())
    with pytest.raises(StoreError, match="disk full"):
        await writer.save(piece("a", 1, "s"))
    writer.close()


async def test_writer_says_at_its_end_what_it_could_not_write(store):
    class Broken:
        def write(self, batch):
            raise StoreError("disk full")

    writer = Writer(Broken())
    writer.add(piece("a", 1, "s"))
    with pytest.raises(StoreError, match="disk full"):
        writer.close()
    writer.close()


def test_process_that_ended_is_known_to_be_gone():
    child = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    from flowcraft.engine.lease import _started

    row = replace(this_process(), pid=child.pid, started=_started(child.pid))
    assert not is_gone(row)
    child.communicate(b"")
    assert is_gone(row)


def test_process_of_another_machine_is_not_known_to_be_gone():
    assert not is_gone(replace(this_process(), boot="another", pid=1, started="1"))
    assert not is_gone(ProcessRow(id="x", host="h", boot="", namespace="", pid=1, started=""))


def test_counter_that_stands_still_for_a_lease_is_a_dead_process(store):
    store.join(replace(this_process(), id="still"))

    found = watch(store, "still", pause=lambda seconds: None)

    assert found.dead
    assert found.seconds == 10.0


def test_counter_that_moves_is_a_live_process(store):
    store.join(replace(this_process(), id="alive"))

    found = watch(store, "alive", pause=lambda seconds: store.beat(replace(this_process(), id="alive")))

    assert not found.dead
    assert found.seconds == 0.5


def test_process_that_left_is_dead_at_once(store):
    assert watch(store, "unknown", pause=lambda seconds: None).seconds == 0


def test_owner_hands_out_what_is_wanted_and_leaves_when_stopped(store):
    wanted = []
    owner = Owner(store, lambda run, what: wanted.append((run, what)))
    owner.start()
    owner.start()
    store.create(new("a"))
    store.begin("a", owner.id, 0)
    store.want("a", "cancel")
    owner.beat()
    assert wanted == [("a", "cancel")]
    assert owner.fresh
    assert store.process(owner.id).beat == 1

    owner.stop()
    owner.stop()

    assert store.process(owner.id) is None


def test_run_of_another_live_process_is_not_taken(engine, store):
    store.create(new("a"))
    store.join(replace(this_process(), id="other"))
    store.begin("a", "other", 0)
    beating = threading.Event()

    def beat():
        while not beating.wait(0.05):
            store.beat(replace(this_process(), id="other"))

    thread = threading.Thread(target=beat)
    thread.start()
    waited = []
    with pytest.raises(RunError, match="alive"):
        engine.take_over("a", waited.append)
    beating.set()
    thread.join()

    assert [process.id for process in waited] == ["other"]


def test_run_without_owner_is_taken_at_once(engine, store):
    store.create(new("a"))

    start = engine.take_over("a", lambda process: pytest.fail("nobody to wait for"))

    assert (start.run.epoch, start.run.owner, start.run.state) == (1, engine.owner.id, "running")


def test_ended_run_is_neither_taken_nor_cancelled(engine, store):
    store.create(new("a"))
    store.begin("a", "me", 0)
    store.write([Write(run="a", epoch=1, state=StateChange(state="cancelled"))])

    with pytest.raises(RunError, match="is cancelled"):
        engine.take_over("a", lambda process: None)
    with pytest.raises(RunError, match="already"):
        engine.want_cancel("a")


async def test_threads_run_many_functions_and_hand_on_what_they_raise():
    pool = DaemonPool(size=4)

    def fail():
        raise KeyError("x")

    assert await asyncio.gather(*(pool.run(lambda n=n: n * 2) for n in range(100))) == [n * 2 for n in range(100)]
    with pytest.raises(KeyError):
        await pool.run(fail)
    with pytest.raises(RuntimeError, match="StopIteration"):
        await pool.run(lambda: next(iter(())))
    pool.close()


async def test_thread_that_hangs_does_not_hold_the_others_up():
    pool = DaemonPool(size=2)
    release = threading.Event()
    hanging = asyncio.ensure_future(pool.run(release.wait))
    await asyncio.sleep(0)

    assert await pool.run(lambda: "free") == "free"

    hanging.cancel()
    with pytest.raises(asyncio.CancelledError):
        await hanging
    release.set()
    pool.close()


async def test_threads_grow_only_where_work_that_waited_was_not_taken(monkeypatch):
    looks = []
    monkeypatch.setattr(asyncio.get_running_loop(), "call_later", lambda seconds, look, *given: looks.append((look, given)))
    pool = DaemonPool()
    release = threading.Event()
    here = set(threading.enumerate())

    def own():
        return len(set(threading.enumerate()) - here)

    blocking = [asyncio.ensure_future(pool.run(release.wait)) for _ in range(EAGER)]
    await asyncio.sleep(0)
    waiting = [asyncio.ensure_future(pool.run(lambda: None)) for _ in range(3)]
    await asyncio.sleep(0)
    assert (own(), len(looks)) == (EAGER, 1)
    look, given = looks.pop()
    release.set()
    await asyncio.gather(*blocking, *waiting)
    release.clear()
    blocking = [asyncio.ensure_future(pool.run(release.wait)) for _ in range(EAGER + 1)]
    await asyncio.sleep(0)

    look(*given)  # one waits, but all that waited when the look was arranged were taken meanwhile
    assert (own(), len(looks)) == (EAGER, 1)

    look, given = looks.pop()
    look(*given)  # and now it still waits
    assert own() > EAGER

    release.set()
    await asyncio.gather(*blocking)
    pool.close()


def test_stored_value_is_what_reading_it_back_gives():
    assert stored({"b": (1, 2), "a": {"x": None}}) == ('{"b":[1,2],"a":{"x":null}}', {"b": [1, 2], "a": {"x": None}})
    assert stored("\ud800")[0] == '"\\ud800"'
    with pytest.raises(StageFailed, match="a set is not JSON"):
        stored({1, 2})


def test_digest_knows_content_and_not_the_order_of_keys():
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    assert digest({"a": 1}) != digest({"a": "1"})


def test_digest_of_code_covers_the_modules_beside_that_it_imports(tmp_path):
    (tmp_path / "first.py").write_text("import second\nfrom package import third\ndef go(): ...\n")
    (tmp_path / "second.py").write_text("A = 1\n")
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__init__.py").write_text("")
    (tmp_path / "package" / "third.py").write_text("B = 1\n")
    (tmp_path / "stranger.py").write_text("C = 1\n")
    before = code_digest(str(tmp_path), "first")

    (tmp_path / "stranger.py").write_text("C = 2\n")
    assert code_digest(str(tmp_path), "first") == before
    (tmp_path / "package" / "third.py").write_text("B = 2\n")
    assert code_digest(str(tmp_path), "first") != before


def test_function_may_import_its_neighbours_when_it_is_called(tmp_path):
    (tmp_path / "lazy_one.py").write_text("def go():\n    import lazy_two\n    return lazy_two.VALUE\n")
    (tmp_path / "lazy_two.py").write_text("VALUE = 7\n")

    assert load_function(str(tmp_path), "lazy_one", "go")() == 7


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("import nothing_of_this_name\n", "ModuleNotFoundError"),
        ("raise SystemError('no')\n", "SystemError"),
        ("x = 1\n", "has no function 'go'$"),
        ("go = 1\n", "has no function 'go': it is an object of the class 'int'"),
    ],
)
def test_module_that_cannot_be_used_says_why(tmp_path, text, told):
    (tmp_path / "broken_one.py").write_text(text)

    with pytest.raises(StageFailed, match=told):
        load_function(str(tmp_path), "broken_one", "go")


def test_module_of_an_installed_package_is_found():
    assert load_function("/nowhere", "json", "dumps")([1]) == "[1]"
    assert code_digest("/nowhere", "json")
