from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest

from flowcraft.attempts import Attempt, Usage
from flowcraft.engine.ports import AttemptRow, EventRow, Loose, Piece, ProcessRow, RunTotals, StateChange, Write
from flowcraft.errors import StoreError
from flowcraft.storage import Database, SqlRunStore

pytestmark = pytest.mark.integration

TEXTS = ["Привет, мир", "你好，世界", "🦆🇺🇦👩‍🚀", "a\u0000b", "lone \ud83d surrogate \udc80", "'; DROP TABLE runs; --"]


def piece(path: str, result: object = "done", **changed: object) -> Piece:
    return Piece(path=path, what="w" * 64, result=json.dumps(result, ensure_ascii=False), **changed)


def event(sequence: int, kind: str = "said") -> EventRow:
    return EventRow(sequence=sequence, kind=kind, stage="a", time=2.0, data='{"n":1}')


def attempt(**changed: object) -> AttemptRow:
    return AttemptRow(path="a/call[1]", stage="a", attempt=Attempt(**{"model": "m", "provider": "p", **changed}))


def test_a_new_run_is_queued_and_has_no_owner(store: SqlRunStore, new_run) -> None:
    store.create(new_run())
    run = store.get("run-1")
    assert run is not None
    assert (run.state, run.owner, run.epoch, run.segment, run.wanted) == ("queued", "", 0, 0, "")
    assert (run.workflow, run.file, run.folder, run.created) == ("digest", "digest.yaml", "/work", 1.0)
    assert (run.inputs, run.snapshot) == ({"topic": "rain"}, {"files": {"digest.yaml": "stages: {}"}})


def test_the_same_id_is_stored_once(store: SqlRunStore, new_run) -> None:
    store.create(new_run())
    with pytest.raises(StoreError, match=r"UNIQUE constraint failed: runs\.id"):
        store.create(new_run())


def test_to_begin_is_to_own_the_run_at_the_next_epoch(store: SqlRunStore, new_run) -> None:
    store.create(new_run())
    start = store.begin("run-1", "me", 0)
    assert start is not None
    assert (start.run.state, start.run.owner, start.run.epoch, start.run.segment) == ("running", "me", 1, 1)
    assert (start.run.inputs, start.pieces, start.next_event) == ({"topic": "rain"}, {}, 1)
    assert store.get("run-1") == start.run


def test_who_comes_second_does_not_begin(started: SqlRunStore) -> None:
    assert started.begin("run-1", "other", 0) is None
    assert started.get("run-1").owner == "me"
    assert started.begin("no such run", "me", 0) is None


def test_the_next_segment_finds_what_the_last_one_wrote(started: SqlRunStore) -> None:
    first, second = piece("a", {"z": 1, "a": 2}, code="c", seconds=1.5), piece("b", None, state="skipped")
    started.write([Write(run="run-1", epoch=1, pieces=(first,), events=(event(1), event(2)))])
    started.write([Write(run="run-1", epoch=1, pieces=(second,), state=StateChange(state="interrupted", seconds=3.0))])
    start = started.begin("run-1", "me", 1)
    assert start is not None
    assert start.pieces == {"a": first, "b": second}
    assert list(json.loads(start.pieces["a"].result)) == ["z", "a"], "the order of keys is kept"
    assert (start.next_event, start.run.segment, start.run.seconds) == (3, 2, 3.0)


def test_a_segment_begins_without_the_last_ones_end(started: SqlRunStore) -> None:
    started.write([Write(run="run-1", epoch=1, state=StateChange(state="failed", error="no", outputs={"a": 1}, ended=9.0))])
    started.want("run-1", "cancel")
    run = started.begin("run-1", "me", 1).run
    assert (run.state, run.error, run.outputs, run.ended, run.wanted) == ("running", "", None, None, "")


def test_a_state_other_than_running_gives_the_ownership_back(started: SqlRunStore) -> None:
    started.write([Write(run="run-1", epoch=1, state=StateChange(state="running", seconds=1.0))])
    assert started.get("run-1").owner == "me"
    started.write([Write(run="run-1", epoch=1, state=StateChange(state="done", outputs={"text": "你好"}, ended=5.0))])
    run = started.get("run-1")
    assert (run.state, run.owner, run.outputs, run.ended) == ("done", "", {"text": "你好"}, 5.0)


def test_what_was_answered_offline_stays_so(started: SqlRunStore) -> None:
    started.write([Write(run="run-1", epoch=1, state=StateChange(state="failed", offline=True))])
    started.begin("run-1", "me", 1)
    started.write([Write(run="run-1", epoch=2, state=StateChange(state="done", offline=False))])
    assert started.get("run-1").offline is True


def test_of_a_fenced_write_only_the_attempts_are_kept(started: SqlRunStore, new_run) -> None:
    started.create(new_run("run-2"))
    started.begin("run-2", "me", 0)
    started.begin("run-1", "other", 1)
    late = Write(
        run="run-1",
        epoch=1,
        pieces=(piece("late"),),
        events=(event(1),),
        attempts=(attempt(usd=0.5),),
        state=StateChange(state="done"),
    )
    assert started.write([late, Write(run="run-2", epoch=1, pieces=(piece("a"),))]) == {("run-1", 1)}
    assert (started.pieces("run-1"), started.events("run-1")) == ([], [])
    assert started.get("run-1").state == "running"
    assert started.totals(["run-1"])["run-1"].usd == 0.5, "the money is spent whatever comes of it"
    assert [found.path for found in started.pieces("run-2")] == ["a"], "other runs of the batch are not rolled back"


def test_a_write_to_an_unknown_run_is_fenced(started: SqlRunStore) -> None:
    assert started.write([Write(run="gone", epoch=1, pieces=(piece("a"),))]) == {("gone", 1)}


def test_an_empty_batch_is_nothing(started: SqlRunStore) -> None:
    assert started.write([]) == set()


def test_the_next_go_replaces_the_recorded_failure_and_comes_last(started: SqlRunStore) -> None:
    started.write([Write(run="run-1", epoch=1, pieces=(piece("a", state="failed"), piece("b")))])
    started.write([Write(run="run-1", epoch=1, pieces=(piece("a", "better"),))])
    assert [(found.path, found.state, found.result) for found in started.pieces("run-1")] == [
        ("b", "done", '"done"'),
        ("a", "done", '"better"'),
    ]


def test_the_last_of_two_pieces_at_one_path_in_one_batch_stays(started: SqlRunStore) -> None:
    batch = [Write(run="run-1", epoch=1, pieces=(piece("a", number),)) for number in range(3)]
    started.write(batch)
    assert [found.result for found in started.pieces("run-1")] == ["2"]


def test_pieces_of_two_runs_do_not_mix(started: SqlRunStore, new_run) -> None:
    started.create(new_run("run-2"))
    started.begin("run-2", "me", 0)
    started.write([Write(run=run, epoch=1, pieces=(piece("a", run),)) for run in ("run-1", "run-2")])
    assert [found.result for found in started.pieces("run-2")] == ['"run-2"']


@pytest.mark.parametrize("said", TEXTS)
def test_any_text_comes_back(started: SqlRunStore, new_run, said: str) -> None:
    started.create(new_run("run-2", workflow="w", inputs={said: said}, snapshot={"files": {said: said}}))
    started.begin("run-2", "me", 0)
    done = StateChange(state="done", outputs=[said], error="plain")
    write = Write(run="run-2", epoch=1, pieces=(piece("a", {said: said}),), events=(event(1),), state=done)
    assert started.write([write]) == set()
    run = started.get("run-2")
    assert (run.inputs, run.snapshot, run.outputs) == ({said: said}, {"files": {said: said}}, [said])
    assert json.loads(started.pieces("run-2")[0].result) == {said: said}


def test_no_text_keeps_a_batch_from_being_written(started: SqlRunStore) -> None:
    bad = "\udcff"
    batch = Write(
        run="run-1",
        epoch=1,
        pieces=(piece(f"a[{bad}]"),),
        events=(EventRow(sequence=1, kind="said", stage=bad, time=0.0, data=json.dumps(bad, ensure_ascii=False)),),
        attempts=(attempt(message=bad, model=bad, provider=bad, role=bad),),
        state=StateChange(state="failed", error=bad),
    )
    assert started.write([batch]) == set()
    assert started.get("run-1").error == "\\udcff"
    assert json.loads(started.events("run-1")[0].data) == bad


def test_a_run_whose_owner_is_gone_is_ended(started: SqlRunStore) -> None:
    assert started.end_unowned("run-1", 1, StateChange(state="cancelled", ended=7.0, error="cancelled")) is True
    run = started.get("run-1")
    assert (run.state, run.owner, run.epoch, run.ended, run.error) == ("cancelled", "", 2, 7.0, "cancelled")
    assert started.write([Write(run="run-1", epoch=1, pieces=(piece("a"),))]) == {("run-1", 1)}, "the old owner is fenced"


def test_a_run_that_somebody_took_over_is_not_ended(started: SqlRunStore) -> None:
    started.begin("run-1", "other", 1)
    assert started.end_unowned("run-1", 1, StateChange(state="cancelled")) is False
    assert started.get("run-1").state == "running"


@pytest.mark.parametrize("state", ["done", "failed", "cancelled"])
def test_run_that_ended_meanwhile_is_not_ended_again(started: SqlRunStore, state) -> None:
    ended = StateChange(state=state, outputs={"a": 1}, ended=6.0)
    started.write([Write(run="run-1", epoch=1, state=ended)])

    assert started.end_unowned("run-1", 1, StateChange(state="cancelled", ended=7.0)) is False
    run = started.get("run-1")
    assert (run.state, run.outputs, run.ended) == (state, {"a": 1}, 6.0)


@pytest.mark.parametrize("state", ["done", "cancelled"])
def test_run_that_ended_meanwhile_does_not_begin_again(started: SqlRunStore, state) -> None:
    started.write([Write(run="run-1", epoch=1, state=StateChange(state=state, ended=6.0))])

    assert started.begin("run-1", "other", 1) is None
    assert started.get("run-1").state == state


def test_a_wish_to_cancel_outlives_owners_and_ends_with_the_run(started: SqlRunStore) -> None:
    assert started.want("run-1", "attend") is True
    assert started.want("run-1", "cancel") is True
    assert started.want("run-1", "attend") is False, "nothing replaces it"
    assert started.want("run-1", "") is False
    assert started.begin("run-1", "other", 1).run.wanted == "cancel"
    started.write([Write(run="run-1", epoch=2, state=StateChange(state="interrupted"))])
    assert started.get("run-1").wanted == "cancel"
    assert started.begin("run-1", "me", 2).run.wanted == "cancel"
    started.write([Write(run="run-1", epoch=3, state=StateChange(state="failed"))])
    assert started.get("run-1").wanted == ""
    assert started.want("run-1", "cancel") is False, "it has ended"


def test_loose_runs_are_those_that_nobody_may_be_looking_after(store: SqlRunStore, new_run) -> None:
    other = ProcessRow(id="other", host="h", boot="b", namespace="n", pid=7, started="1")
    store.join(other)
    for run, owner, state, wanted in (
        ("new", "", "", ""),
        ("mine", "me", "", ""),
        ("theirs", "other", "", ""),
        ("lost", "nobody", "", "cancel"),
        ("asks", "me", "waiting", ""),
        ("ends", "me", "waiting", "cancel"),
        ("left", "me", "interrupted", ""),
        ("kept", "me", "interrupted", "attend"),
        ("over", "me", "failed", "cancel"),
    ):
        store.create(new_run(run))
        if owner:
            store.begin(run, owner, 0)
        if wanted:
            store.want(run, wanted)
        if state:
            store.write([Write(run=run, epoch=1, state=StateChange(state=state))])

    found = {one.run: one for one in store.loose("me")}

    assert found == {
        "new": Loose(run="new", state="queued", epoch=0),
        "theirs": Loose(run="theirs", state="running", epoch=1, process=other),
        "lost": Loose(run="lost", state="running", epoch=1, wanted="cancel"),
        "ends": Loose(run="ends", state="waiting", epoch=1, wanted="cancel"),
        "kept": Loose(run="kept", state="interrupted", epoch=1, wanted="attend"),
    }


def test_a_wish_for_an_unknown_run_says_so(store: SqlRunStore) -> None:
    with pytest.raises(StoreError, match="there is no run 'nix'"):
        store.want("nix", "cancel")


def test_attempts_come_back_as_they_were(started: SqlRunStore) -> None:
    usage = Usage(input=9, cached=3, cache_write=1, output=5, reasoning=2, audio=1)
    full = attempt(
        role="primary",
        outcome="RateLimited",
        message="тише",
        started=1.5,
        seconds=2.5,
        wait=0.5,
        first_token=0.1,
        usage=usage,
        usd=0.25,
        offline=True,
    )
    started.write([Write(run="run-1", epoch=1, attempts=(full, attempt()))])
    assert started.attempts("run-1") == [full, attempt()]


def test_totals_are_sums_over_the_calls(started: SqlRunStore, new_run) -> None:
    spent = (
        attempt(usage=Usage(input=10, output=5), usd=0.25),
        attempt(usage=Usage(input=1, output=1), usd=None, offline=True),
        attempt(outcome="skipped", offline=True),
        attempt(outcome="ProviderTimeout", usd=0.5),
    )
    started.write([Write(run="run-1", epoch=1, attempts=spent)])
    assert started.totals(["run-1", "none"]) == {
        "run-1": RunTotals(calls=3, tokens=17, usd=0.75, offline=1),
        "none": RunTotals(),
    }


def test_totals_of_free_calls_have_no_price(started: SqlRunStore) -> None:
    started.write([Write(run="run-1", epoch=1, attempts=(attempt(),))])
    assert started.totals(["run-1"])["run-1"].usd is None


def test_totals_of_more_runs_than_one_statement_takes(started: SqlRunStore) -> None:
    started.write([Write(run=f"run-{number}", epoch=0, attempts=(attempt(),)) for number in range(40_000)])
    totals = started.totals([f"run-{number}" for number in range(40_000)])
    assert {total.calls for total in totals.values()} == {1}


def test_events_behind_a_sequence(started: SqlRunStore) -> None:
    started.write([Write(run="run-1", epoch=1, events=tuple(event(number) for number in range(1, 12)))])
    assert [found.sequence for found in started.events("run-1", after=9)] == [10, 11]
    assert started.events("run-1")[0] == event(1)
    assert started.events("other") == []


def test_a_run_is_found_by_the_beginning_of_its_id(store: SqlRunStore, new_run) -> None:
    for run in ("abc1", "abc2", "ABx", "a%b", "xyz", "abc"):
        store.create(new_run(run))
    assert store.get("xy").id == "xyz"
    assert store.get("abc").id == "abc", "a whole id is never ambiguous"
    assert store.get("AB").id == "ABx"
    assert store.get("a%").id == "a%b"
    assert store.get("nix") is None
    assert store.get("") is None
    with pytest.raises(StoreError, match=r"several runs begin with 'ab': abc, abc1, abc2; write more of the id"):
        store.get("ab")


def test_a_long_list_of_ids_is_cut(store: SqlRunStore, new_run) -> None:
    for number in range(7):
        store.create(new_run(f"run-{number}", created=float(number)))
    with pytest.raises(StoreError, match=r"run-6, run-5, run-4, run-3, run-2 and more"):
        store.get("run")


def test_the_newest_runs_come_first_without_their_snapshots(store: SqlRunStore, new_run) -> None:
    for number in range(5):
        store.create(new_run(f"run-{number}", created=float(number), inputs={"n": number}))
    store.begin("run-1", "me", 0)
    found = store.list(limit=3)
    assert [(run.id, run.inputs, run.snapshot) for run in found] == [(f"run-{n}", {"n": n}, {}) for n in (4, 3, 2)]
    assert [run.id for run in store.list(state="running")] == ["run-1"]
    assert store.list(state="done") == []


OTHER_PROCESS = """
import sys
from flowcraft.storage import Database, SqlRunStore
store = SqlRunStore(Database(sys.argv[1]))
start = store.begin("run-1", "other", 1)
print(start.run.epoch, sorted(start.pieces))
"""


def test_another_process_takes_over_and_fences_the_first(started: SqlRunStore, path: Path) -> None:
    mine = Write(run="run-1", epoch=1, pieces=(piece("a"),))
    assert started.write([mine]) == set()
    told = subprocess.run(
        [sys.executable, "-c", OTHER_PROCESS, f"sqlite:///{path}"], capture_output=True, text=True, check=True
    )
    assert told.stdout == "2 ['a']\n"
    assert started.write([Write(run="run-1", epoch=1, pieces=(piece("b"),))]) == {("run-1", 1)}
    assert [found.path for found in started.pieces("run-1")] == ["a"]


WRITER = """
import sys
from flowcraft.engine.ports import EventRow, Piece, Write
from flowcraft.storage import Database, SqlRunStore
store = SqlRunStore(Database(sys.argv[1]))
epoch = int(sys.argv[2])
for batch in range(10_000_000):
    pieces = tuple(Piece(path=f"{epoch}.{batch}[{n}]", what="w", result='"' + "x" * 500 + '"') for n in range(20))
    store.write([Write(run="run-1", epoch=epoch, pieces=pieces)])
    print(batch, flush=True)
"""


def test_a_killed_writer_leaves_whole_batches(started: SqlRunStore, database: Database, path: Path) -> None:
    for epoch in range(1, 6):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, f"sqlite:///{path}", str(epoch)], stdout=subprocess.PIPE, text=True
        )
        assert writer.stdout is not None
        for _ in range(3 * epoch):
            writer.stdout.readline()
        writer.kill()
        said = writer.stdout.read().split()
        writer.wait()
        writer.stdout.close()
        start = started.begin("run-1", "me", epoch)
        assert start is not None
        found = [path for path in start.pieces if path.startswith(f"{epoch}.")]
        batches = {path.split("[")[0] for path in found}
        assert len(found) == 20 * len(batches)
        assert all(f"{epoch}.{batch}" in batches for batch in said if batch.isdigit()), "what was said to be saved is there"
    database.close()
    with sqlite3.connect(path) as other:
        assert other.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    other.close()


@pytest.mark.parametrize(
    ("given", "tokens", "usd"),
    [
        ({"usage": Usage(input=12.5)}, 12, None),
        ({"usage": Usage(input=2**70)}, 2**53, None),
        ({"usd": Decimal("0.25")}, 0, 0.25),
    ],
)
def test_attempt_that_a_plugin_counts_oddly_is_kept(started: SqlRunStore, given, tokens, usd) -> None:
    started.write([Write(run="run-1", epoch=1, attempts=(attempt(**given),))])

    (row,) = started.attempts("run-1")
    assert (row.attempt.usage.input, row.attempt.usd) == (tokens, usd)
    assert (started.totals(["run-1"])["run-1"].tokens, started.totals(["run-1"])["run-1"].usd) == (tokens, usd)
