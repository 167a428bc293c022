"""``attach``: the images, sounds and files that go with a prompt."""

from __future__ import annotations

import ipaddress
import mimetypes
import os
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from flowcraft.source import did_you_mean
from flowcraft.workflow.expressions.template import OPENING
from flowcraft.workflow.loading.reading import Path, Reading, plain_kind
from flowcraft.workflow.schema import Attachment

LARGEST = 20_000_000
"""Bytes of one attached file."""

LARGEST_TOGETHER = 50_000_000
MOST = 100

CAPABILITIES: Mapping[str, str] = {"image": "images", "audio": "audio_in", "file": "files"}
"""What a model must be able to do to be given an attachment of a kind."""

_PICTURES = frozenset({"png", "jpeg", "gif", "webp", "bmp", "tiff", "heic", "heif", "avif"})
_TYPES: Mapping[str, str] = {
    **dict.fromkeys((".ts", ".mts", ".tsx", ".jsx", ".rs", ".go", ".toml", ".yaml", ".yml", ".log"), "text/plain"),
    ".md": "text/markdown",
    ".webp": "image/webp",
    ".heic": "image/heic",
    ".avif": "image/avif",
    ".m4a": "audio/mp4",
    ".flac": "audio/flac",
    ".ogg": "audio/ogg",
    ".opus": "audio/opus",
    ".wav": "audio/wav",
    ".mkv": "video/x-matroska",
    ".webm": "video/webm",
}
_NAMES_OF_THIS_MACHINE = ("localhost", ".localhost", ".local", ".internal", ".lan")


class NotAttachable(ValueError):
    """Something cannot be attached; the message says why, ``hint`` what to do."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


def is_url(text: str) -> bool:
    """Say whether ``text`` names something by a URL, not by a path."""
    return "://" in text[:40] or text[:5].lower() == "data:"


def media_type(name: str) -> str:
    """Return the media type of a file by its name; no system's own list is asked, so that it is the same everywhere."""
    ending = os.path.splitext(name)[1].lower()
    known = mimetypes.MimeTypes(filenames=())
    return _TYPES.get(ending) or known.guess_type(f"x{ending}", strict=False)[0] or "application/octet-stream"


def kind_of(name: str) -> str:
    """Return what a file is to a model by its name: image, audio or file. Raises NotAttachable for videos."""
    if is_url(name):
        return kind_of_url(name)
    group, _, kind = media_type(name).partition("/")
    if group == "video":
        raise NotAttachable(f"'{name}' is a video, which cannot be attached yet", "attach single frames of it as images")
    if group == "image" and kind in _PICTURES:
        return "image"
    return "audio" if group == "audio" else "file"


def kind_of_url(url: str) -> str:
    """Return ``image``: nothing else is passed on as a URL. Raises NotAttachable for what is none, or leads to this machine."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        raise NotAttachable(f"'{url}' is no URL") from None
    if parts.scheme.lower() not in ("http", "https") or not host:
        raise NotAttachable(f"'{url[:60]}' is no URL of the web", "write https://..., or the path of a file")
    if _is_private(host):
        raise NotAttachable(f"'{host}' is a private address", "fetch it in a stage of its own and attach the file")
    told = media_type(parts.path)
    if told != "application/octet-stream" and not told.startswith("image/"):
        raise NotAttachable("only images are attached by URL", "fetch it in a stage of its own and attach the file")
    return "image"


def _is_private(host: str) -> bool:
    name = host.rstrip(".").lower()
    if name == "localhost" or name.endswith(_NAMES_OF_THIS_MACHINE):
        return True
    try:
        return not ipaddress.ip_address(name.partition("%")[0]).is_global
    except ValueError:
        return name.rpartition(".")[2].isdigit() or "." not in name  # 127.1, 0x7f.1, a name of the own network


def check_file(path: str, shown: str) -> int:
    """Return the size of a file that is to be attached, in bytes. Raises NotAttachable."""
    try:
        found = os.stat(path)
    except (OSError, ValueError) as error:
        near = _near(path) if isinstance(error, FileNotFoundError) else ""
        reason = "there is no file" if isinstance(error, FileNotFoundError) else "cannot be read:"
        raise NotAttachable(f"{reason} '{shown}'", near) from None
    if not os.path.isfile(path):
        raise NotAttachable(f"'{shown}' is no plain file")
    if not found.st_size:
        raise NotAttachable(f"'{shown}' is empty")
    if found.st_size > LARGEST:
        raise NotAttachable(f"'{shown}' has {found.st_size / 1e6:.1f} MB, over the limit of 20 MB for an attachment")
    return found.st_size


def read_attach(reading: Reading, path: Path, data: Any, stage: str) -> tuple[Attachment, ...]:
    """Return what ``attach`` lists; keep what is wrong with it."""
    if data is None:
        return ()
    many = isinstance(data, list)
    found = []
    for index, written in enumerate(data if many else [data]):
        at: Path = (*path, index) if many else path
        if isinstance(written, str) and OPENING not in written:
            attachment = _literal(reading, at, written)
        elif isinstance(written, str) or (isinstance(written, Mapping) and set(written) == {"file"}):
            template = reading.template(at, written, "attach", stage)
            attachment = None if template is None else Attachment(what=template, at=at)
        else:
            reading.problem(at, f"'attach' takes paths and URLs, not {plain_kind(written)}", "write attach: [picture.png]")
            attachment = None
        if attachment is not None:
            found.append(attachment)
    _check_size(reading, path, found)
    return tuple(found)


def _literal(reading: Reading, at: Path, written: str) -> Attachment | None:
    if not written.strip():
        reading.problem(at, "'attach' holds an empty path")
        return None
    absolute = "" if is_url(written) else os.path.normpath(os.path.join(reading.folder, written))
    try:
        kind = kind_of(written)
        if absolute and reading.files.from_disk:
            check_file(absolute, written)
    except NotAttachable as error:
        reading.problem(at, str(error), error.hint)
        return None
    return Attachment(what=written, path=absolute, kind=kind, at=at)


def _check_size(reading: Reading, path: Path, found: list[Attachment]) -> None:
    if len(found) > MOST:
        reading.problem(path, f"'attach' takes at most {MOST}, not {len(found)}")
    if reading.files.from_disk:
        together = sum(os.path.getsize(one.path) for one in found if one.path)
        if together > LARGEST_TOGETHER:
            reading.problem(path, f"the attachments have {together / 1e6:.1f} MB together, over the limit of 50 MB")


def _near(path: str) -> str:
    folder, name = os.path.split(path)
    try:
        return did_you_mean(name, sorted(os.listdir(folder or ".")))
    except OSError:
        return ""
