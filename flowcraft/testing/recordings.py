"""Recorded runs as tests: a pytest plugin, and ``replay`` for tests of one's own. Loads nothing before there is one to replay.

It is named by who wants it (``pytest_plugins``), and not found by its installation: of what brings a plugin that way, pytest
rewrites every module.

Every ``STEM.recorded.sqlite`` that pytest comes by is a test: the workflow beside it asks for the same, and gives the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from flowcraft.app.replay import Replayed

SUFFIX = ".recorded.sqlite"
"""How a recording's name ends, as ``flowcraft run --record`` writes it."""

_WORKFLOWS = (".yaml", ".yml")


class Differs(AssertionError):
    """A workflow asks for something else than its recording, or gives something else; the message shows what."""


def replay(path: str | Path, recording: str | Path | None = None, inputs: Mapping[str, Any] | None = None) -> Replayed:
    """Replay the recording of a workflow file and return what came of it: outputs, state, run.

    Nothing is carried out: no network, key, process or database is needed. ``recording`` is the one beside the file unless it
    is named; ``inputs`` count over those recorded. Raises Differs where something differs, WorkflowError where the file is
    wrong, StoreError where there is no recording.
    """
    __tracebackhide__ = True
    from flowcraft.app import replay as replaying
    from flowcraft.bridge import Bridge

    with Bridge() as bridge:  # works in asynchronous tests too
        found = bridge.run(replaying.replay(path, recording, inputs))
    if not found.same:
        raise Differs(str(found))
    return found


@pytest.fixture(name="replay")
def replay_fixture() -> Callable[..., Replayed]:
    """Return ``replay``, which replays the recording of a workflow file and fails where something differs."""
    return replay


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """Take every recording as a test; another program's file that happens to be called alike is left alone."""
    ours = file_path.name.endswith(SUFFIX) and (_workflow_of(file_path) is not None or _is_recording(file_path))
    return RecordingFile.from_parent(parent, path=file_path) if ours else None


def _workflow_of(recording: Path) -> Path | None:
    """Return the workflow file beside a recording."""
    stem = recording.name.removesuffix(SUFFIX)
    return next((path for suffix in _WORKFLOWS if (path := recording.with_name(stem + suffix)).exists()), None)


def _is_recording(path: Path) -> bool:
    """Say whether a file without a workflow beside it is a database of FlowCraft."""
    from flowcraft.storage.export import holds_our_tables

    return holds_our_tables(path)


class RecordingFile(pytest.File):
    """The file of a recording: one test."""

    def collect(self) -> Iterator[pytest.Item]:
        """Yield the replay."""
        yield RecordingItem.from_parent(self, name="replay")


class RecordingItem(pytest.Item):
    """The replay of one recording with the workflow beside it."""

    def runtest(self) -> None:
        """Replay it."""
        workflow = _workflow_of(self.path)
        if workflow is None:
            stem = self.path.name.removesuffix(SUFFIX)
            raise Differs(f"there is no workflow {stem}.yaml beside {self.path.name}")
        replay(workflow, self.path)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """Return what differs, or what is wrong with a file, without a traceback."""
        from flowcraft.errors import FlowCraftError

        if isinstance(excinfo.value, Differs | FlowCraftError):
            problems = getattr(excinfo.value, "problems", ())
            return "\n".join(map(str, problems)) if problems else str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, int | None, str]:
        """Return where the test is and what it is called."""
        return self.path, None, f"replay of {self.path.name.removesuffix(SUFFIX)}"
