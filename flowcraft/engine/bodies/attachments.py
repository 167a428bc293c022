"""What goes with a prompt: found when the stage runs, read and bounded, named by its contents."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flowcraft.engine.context import Context
from flowcraft.errors import StageFailed
from flowcraft.plugin.messages import Audio, File, Image, Part
from flowcraft.workflow.expressions.expression import Expression, ExpressionError
from flowcraft.workflow.expressions.template import Template
from flowcraft.workflow.loading.attachments import (
    LARGEST,
    LARGEST_TOGETHER,
    MOST,
    NotAttachable,
    check_file,
    is_url,
    kind_of,
    media_type,
)
from flowcraft.workflow.loading.files import lies_below, open_plain
from flowcraft.workflow.schema import Attachment, Stage


@dataclass(frozen=True, slots=True, kw_only=True)
class Attached:
    """A path or URL as it came, and what it is: image, audio or file.

    ``path`` is absolute where it was written in the file. One that arrived at run time belongs to the folder where the run was
    started; only ``anywhere`` may it lead out of there: where nothing but the run's inputs says it.
    """

    what: str
    kind: str
    path: str = ""
    anywhere: bool = False

    @property
    def is_url(self) -> bool:
        """Whether a URL was given."""
        return is_url(self.what)

    def found(self, started_in: str) -> str:
        """Return the absolute path."""
        return self.path or os.path.normpath(os.path.join(started_in, self.what))


def attached(stage: Stage, attach: Sequence[Attachment], scope: Mapping[str, Any]) -> tuple[Attached, ...]:
    """Return what ``attach`` of ``stage`` gives; null and empty lists give nothing. Raises ExpressionError."""
    found: list[Attached] = []
    for one in attach:
        if not isinstance(one.what, Template):
            found.append(Attached(what=one.what, kind=one.kind, path=one.path))
            continue
        anywhere = _mentioned(one.what) <= _given(stage)
        given = one.what.render(scope)
        for value in given if isinstance(given, list) else [given]:
            if value is None:
                continue
            if not isinstance(value, str) or not value.strip():
                empty = isinstance(value, str)
                raise ExpressionError("attach: an empty path" if empty else f"attach: a path or URL is text, not {value!r}")
            try:
                found.append(Attached(what=value.strip(), kind=kind_of(value.strip()), anywhere=anywhere))
            except NotAttachable as error:
                raise ExpressionError(f"attach: {error}; {error.hint}" if error.hint else f"attach: {error}") from None
    if len(found) > MOST:
        raise ExpressionError(f"attach: at most {MOST} go with a prompt, not {len(found)}")
    return tuple(found)


def _mentioned(template: Template) -> set[str]:
    return {name for expression in template.expressions for name in expression.names}


def _given(stage: Stage) -> frozenset[str]:
    """Return the names that hold nothing but what the run was given."""
    each = stage.each
    own = isinstance(each, Expression) and each.names <= {"inputs"}
    return frozenset({"inputs", "index", "item"} if own else {"inputs", "index"})


def contents(path: str) -> str:
    """Return the SHA-256 of a file; empty where it cannot be read now."""
    try:
        with open_plain(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except (OSError, ValueError):
        return ""


async def load(attach: Sequence[Attached], context: Context) -> tuple[Part, ...]:
    """Return the parts of a message, files with their contents. Raises StageFailed for what cannot be read or is too large."""
    try:
        return await context.threads.run(lambda: _load(attach, context))
    except NotAttachable as error:
        raise StageFailed(f"attach: {error}; {error.hint}" if error.hint else f"attach: {error}") from None


def _load(attach: Sequence[Attached], context: Context) -> tuple[Part, ...]:
    together = 0
    parts: list[Part] = []
    for one in attach:
        if one.is_url:
            parts.append(Image(url=one.what))
            continue
        data = _read(one, context)
        together += len(data)
        if together > LARGEST_TOGETHER:
            raise NotAttachable("the attachments are over the limit of 50 MB together")
        parts.append(_part(one, one.found(context.started_in), data))
    return tuple(parts)


def _read(one: Attached, context: Context) -> bytes:
    """Return the contents; where the file lies is asked of what was opened, so that nobody can swap it meanwhile."""
    path = one.found(context.started_in)
    check_file(path, one.what)
    try:
        with open_plain(path) as file:
            if not one.path and not one.anywhere and not lies_below(file, path, context.started_in, context.folder):
                hint = "a path that a stage gives lies below the folder where the run was started, or below the workflow's"
                raise NotAttachable(f"'{one.what}' leads out of the run's folder", hint)
            data = file.read(LARGEST + 1)
    except OSError as error:
        raise NotAttachable(f"'{one.what}' cannot be read: {error.strerror or 'it is no plain file'}") from None
    if len(data) > LARGEST:
        raise NotAttachable(f"'{one.what}' is over the limit of 20 MB for an attachment")
    return data


def _part(one: Attached, path: str, data: bytes) -> Part:
    told: dict[str, Any] = {"data": data, "media_type": media_type(path), "sha256": hashlib.sha256(data).hexdigest()}
    if one.kind == "file":
        return File(name=os.path.basename(path), **told)
    return Image(**told) if one.kind == "image" else Audio(**told)
