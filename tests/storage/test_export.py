"""A run in a file of its own: whole, without secrets, readable wherever the file is taken."""

from __future__ import annotations

import base64
import os
import sqlite3
import stat
import threading
from pathlib import Path

import pytest

from flowcraft.attempts import Attempt, Usage
from flowcraft.engine.ports import AttemptRow, EventRow, Piece, StateChange, Write
from flowcraft.errors import StoreError
from flowcraft.redaction import Redactor
from flowcraft.storage import Database, Export, SqlRunStore, is_export, write_export

pytestmark = pytest.mark.integration

SECRET = "sk-Öl/very+secret=7"


def filled(store, run="run-1", text="plain"):
    pieces = (
        Piece(path="a", what="w1", code="c1", result=f'{{"said":"{text}"}}', asked=f'{{"prompt":"{text}"}}', seconds=0.5),
        Piece(path="b[0]", what="w2", state="failed", result='{"error":"no","goes":1}', origin="fork:other"),
    )
    event = EventRow(sequence=1, kind="said", stage="a", time=2.0, data=f'{{"kind":"said","message":"{text}"}}')
    attempt = Attempt(
        model="m", provider="p", outcome="ok", message=text, started=1.0, usage=Usage(input=3, output=4), usd=0.01
    )
    state = StateChange(state="done", outputs={"a": text}, seconds=1.5, ended=9.0)
    row = AttemptRow(path="a", stage="a", attempt=attempt)
    store.write([Write(run=run, epoch=1, pieces=pieces, events=(event,), attempts=(row,), state=state)])


def exported(database, target, *secrets, run="run-1", force=False):
    write_export(database, run, target, redactor=Redactor(secrets), force=force)
    return Export(target)


def everything(store, run="run-1"):
    return (store.get(run), store.pieces(run, asked=True), store.events(run), store.attempts(run), store.totals([run]))


def test_holds_all_that_the_database_knows_of_the_run_and_nothing_of_others(database, started, new_run, tmp_path):
    filled(started)
    started.create(new_run("run-2"))
    export = exported(database, tmp_path / "out.sqlite")

    assert everything(export.store) == everything(started)
    assert export.run.id == "run-1"
    with sqlite3.connect(tmp_path / "out.sqlite") as connection:
        assert connection.execute("SELECT id FROM runs").fetchall() == [("run-1",)]
        assert connection.execute("SELECT run FROM documents").fetchall() == [("run-1",)]
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)


def test_has_the_schema_of_the_database(database, started, path, tmp_path):
    exported(database, tmp_path / "out.sqlite")

    def schema(file: Path) -> list[tuple[str]]:
        with sqlite3.connect(file) as connection:
            return connection.execute("SELECT type, name, sql FROM sqlite_master ORDER BY type, name").fetchall()

    assert schema(tmp_path / "out.sqlite") == schema(path)


def test_a_run_that_still_runs_is_exported_as_it_stands_without_its_owner(database, started, tmp_path):
    export = exported(database, tmp_path / "out.sqlite")

    assert (export.run.state, export.run.owner, export.run.epoch) == ("running", "", 1)


def forms():
    raw = SECRET.encode()
    return {raw, base64.b64encode(raw), raw.hex().encode(), b"sk-%C3%96l", b"sk-\\u00d6l"}


def test_no_byte_of_it_holds_a_secret_that_became_known_since(database, started, new_run, tmp_path):
    wrapped = base64.b64encode(SECRET.encode()).decode()
    filled(started, text=f"the key {SECRET} and {wrapped}")
    started.create(new_run("run-2", inputs={"key": SECRET, SECRET: "name"}, snapshot={"files": {"a.yaml": f"x: {SECRET}"}}))

    for run in ("run-1", "run-2"):
        target = tmp_path / f"{run}.sqlite"
        export = exported(database, target, SECRET, run=run)
        content = target.read_bytes()

        assert not [form for form in forms() if form in content], run
        assert b"***" in content
        assert export.run.id == run


def test_says_where_a_secret_was(database, started, tmp_path):
    filled(started, text=f"the key {SECRET}.")

    assert exported(database, tmp_path / "out.sqlite", SECRET).store.pieces("run-1")[0].result == '{"said":"the key ***."}'


def test_what_is_json_stays_json_without_its_secrets(database, started, tmp_path):
    filled(started, text="quoted 'secret-word' here")
    export = exported(database, tmp_path / "out.sqlite", "secret-word")

    assert export.run.outputs == {"a": "quoted '***' here"}
    assert export.store.pieces("run-1", asked=True)[0].asked == '{"prompt":"quoted \'***\' here"}'
    assert export.store.attempts("run-1")[0].attempt.message == "quoted '***' here"


def test_refuses_to_replace_a_file_unless_that_is_wanted(database, started, tmp_path):
    target = tmp_path / "out.sqlite"
    target.write_text("mine")

    with pytest.raises(StoreError, match=r"out\.sqlite is there already; name another file, or replace it with --force"):
        exported(database, target)
    assert target.read_text() == "mine"

    assert exported(database, target, force=True).run.id == "run-1"


def test_of_many_at_once_one_writes_and_the_others_are_refused(database, started, tmp_path):
    target = tmp_path / "out.sqlite"
    outcomes: list[str] = []

    def export() -> None:
        try:
            write_export(database, "run-1", target, redactor=Redactor())
            outcomes.append("written")
        except StoreError:
            outcomes.append("refused")

    threads = [threading.Thread(target=export) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(outcomes) == ["refused"] * 7 + ["written"]
    assert Export(target).run.id == "run-1"


def test_leaves_nothing_beside_it(database, started, tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    exported(database, folder / "a.sqlite").close()
    with pytest.raises(StoreError):
        exported(database, folder / "a.sqlite")

    assert [entry.name for entry in folder.iterdir()] == ["a.sqlite"]


@pytest.mark.parametrize(
    ("target", "told"),
    [("missing/out.sqlite", "cannot be written: No such file or directory"), ("", "is a folder; name a file")],
)
def test_says_why_it_cannot_be_written(database, started, tmp_path, target, told):
    with pytest.raises(StoreError, match=told):
        exported(database, tmp_path / target)


def test_is_read_where_nothing_may_be_written(database, started, tmp_path):
    filled(started)
    folder = tmp_path / "locked"
    folder.mkdir()
    write_export(database, "run-1", folder / "a.sqlite", redactor=Redactor())
    before = (folder / "a.sqlite").read_bytes()
    os.chmod(folder / "a.sqlite", stat.S_IRUSR)
    os.chmod(folder, stat.S_IRUSR | stat.S_IXUSR)
    try:
        export = Export(folder / "a.sqlite")
        assert everything(export.store) == everything(started)
        export.close()
        assert [entry.name for entry in folder.iterdir()] == ["a.sqlite"]
    finally:
        os.chmod(folder, stat.S_IRWXU)
    assert (folder / "a.sqlite").read_bytes() == before


def test_nothing_of_it_can_be_changed(database, started, tmp_path):
    export = exported(database, tmp_path / "out.sqlite")

    with pytest.raises(StoreError, match="may not be written to"):
        export.store.want("run-1", "cancel")


def test_a_name_that_is_no_plain_word_is_a_name(database, started, tmp_path):
    target = tmp_path / "a ?b#c%20 ü.sqlite"

    assert exported(database, target).run.id == "run-1"


def cut(target):
    target.write_bytes(target.read_bytes()[:-1024])


def scribble(target):
    content = bytearray(target.read_bytes())
    content[1024:9000] = b"\xff" * (9000 - 1024)
    target.write_bytes(content)


def empty_table(target):
    with sqlite3.connect(target) as connection:
        connection.execute("DELETE FROM runs")


def other_program(target):
    target.unlink()
    with sqlite3.connect(target) as connection:
        connection.execute("CREATE TABLE runs (id)")


def newer(target):
    with sqlite3.connect(target) as connection:
        connection.execute("UPDATE flowcraft_version SET version_num = '9999'")


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (cut, "is damaged: .*; export the run again"),
        (scribble, "is damaged: .*; export the run again"),
        (lambda target: target.write_text("hello"), "is no export of a run: it is no SQLite file"),
        (lambda target: target.write_bytes(b""), "is no export of a run: it is no SQLite file"),
        (lambda target: target.unlink(), "cannot be read: No such file"),
        (empty_table, "is no export of a run: it holds no run; 'flowcraft runs export RUN' writes one"),
        (other_program, "is no export of a run: it is another program's database"),
        (newer, "has schema '9999', this FlowCraft knows schemas up to .*: upgrade FlowCraft"),
    ],
)
def test_says_what_a_file_is_that_is_no_export(database, started, tmp_path, spoil, told):
    target = tmp_path / "out.sqlite"
    write_export(database, "run-1", target, redactor=Redactor())
    spoil(target)

    with pytest.raises(StoreError, match=told):
        Export(target)


def test_a_whole_database_is_no_export_when_it_holds_several_runs(database, started, new_run, path):
    started.create(new_run("run-2"))
    database.close()

    with pytest.raises(StoreError, match="it holds several runs; an export holds one"):
        Export(path)


def test_one_of_an_earlier_schema_is_read_and_left_as_it_is(tmp_path):
    from sqlalchemy import create_engine

    target = tmp_path / "old.sqlite"
    with create_engine(f"sqlite:///{target}").connect() as connection, connection.begin():
        from alembic import command
        from alembic.config import Config

        config = Config()
        config.set_main_option("script_location", "flowcraft.storage:migrations")
        config.attributes["connection"] = connection
        command.upgrade(config, "0002")
    with sqlite3.connect(target) as connection:
        connection.execute("INSERT INTO runs (id, workflow, state, created) VALUES ('old', 'w', 'done', 1.0)")
        connection.execute("INSERT INTO documents (run, inputs, snapshot) VALUES ('old', '{}', '{}')")
        connection.execute("INSERT INTO pieces (run, path, state, result) VALUES ('old', 'a', 'done', '1')")
    before = target.read_bytes()

    export = Export(target)

    assert [piece.path for piece in export.store.pieces("old", asked=True)] == ["a"]
    export.close()
    assert target.read_bytes() == before


@pytest.mark.parametrize(
    ("word", "file"), [("261121-140455-ab12", False), ("2611", False), ("a.sqlite", True), ("./a", True), ("/x/y", True)]
)
def test_a_file_is_told_from_an_id(word, file):
    assert is_export(word) is file


def test_a_database_that_is_only_read_is_not_created(tmp_path):
    store = SqlRunStore(Database(f"sqlite:///{tmp_path}/none.db", read_only=True))

    with pytest.raises(StoreError, match="cannot be opened"):
        store.list()
    assert not (tmp_path / "none.db").exists()
