from __future__ import annotations

import pytest

from flowcraft.engine.ports import ProcessRow
from flowcraft.storage import SqlRunStore

pytestmark = pytest.mark.integration

ME = ProcessRow(id="me", host="host", boot="b1", namespace="4026531836", pid=42, started="12345")


def test_a_process_is_entered_beats_and_leaves(store: SqlRunStore) -> None:
    assert store.process("me") is None
    store.join(ME)
    assert store.process("me") == ME
    store.beat(ME)
    store.beat(ME)
    assert store.process("me").beat == 2
    store.leave("me")
    assert store.process("me") is None


def test_to_join_again_is_to_begin_anew(store: SqlRunStore) -> None:
    store.join(ME)
    store.beat(ME)
    store.join(ME)
    assert store.process("me") == ME


def test_a_beat_tells_what_is_wanted_of_ones_own_runs(store: SqlRunStore, new_run) -> None:
    store.join(ME)
    for run, owner in (("mine", "me"), ("calm", "me"), ("theirs", "other")):
        store.create(new_run(run))
        store.begin(run, owner, 0)
    assert store.beat(ME) == {}
    store.want("mine", "cancel")
    store.want("theirs", "cancel")
    assert store.beat(ME) == {"mine": "cancel"}


def test_a_process_that_was_taken_for_dead_enters_itself_again_as_it_beats(store: SqlRunStore) -> None:
    store.join(ME)
    store.beat(ME)
    store.leave("me")
    store.leave("nobody")
    assert store.beat(ME) == {}
    assert store.process("me") == ME
