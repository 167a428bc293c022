"""One folder and nothing else: files are opened from its descriptor down, name by name, and no link is followed."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import stat
import time
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

LARGEST_FILE: Final = 2_000_000
"""Bytes of a file that is read or written."""

LONGEST_PATH: Final = 1_000
LONGEST_NAME: Final = 255
"""Bytes of one name, which is what file systems take."""

LOCK_SECONDS: Final = 10.0
"""How long a change waits for others that are made in the same folder."""

PRIVATE: Final = frozenset({".git", ".hg", ".svn", ".jj", ".bzr", "_darcs"})
"""Folders of version control: what is written there is carried out by its commands, and what stands there may be a secret."""

_FOLDER = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
_READ = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0)
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
_SHORT_NAME = re.compile(r"git~\d+", re.IGNORECASE)
_VARIABLE = re.compile(r"\$(?:\{|\()?(?:HOME|OLDPWD|PWD|TMPDIR)\b|%\w+%", re.IGNORECASE)


class Refused(ValueError):
    """What was asked for does not lie in the folder, or is nothing that is read or written there."""


@dataclass(frozen=True, slots=True)
class Opened:
    """What a file held when it was read, and which file that was."""

    data: bytes
    status: os.stat_result


def parts_of(path: str) -> tuple[str, ...]:
    """Return the names of a path below a folder, one for each step. Raises Refused for what may lead elsewhere."""
    if not path or len(path) > LONGEST_PATH:
        raise Refused(f"a path has 1 to {LONGEST_PATH:,} characters")
    if path.startswith("/"):
        raise Refused(f"{path!r} is an absolute path; write one that begins in the project folder")
    if path.startswith("~") or _VARIABLE.match(path):
        raise Refused(f"{path!r} begins with a name for a home folder; write a path that begins in the project folder")
    if path[:5].casefold() == "file:":
        raise Refused(f"{path!r} is an address; write a path that begins in the project folder")
    parts = tuple(part for part in path.split("/") if part not in ("", "."))
    for part in parts:
        if wrong := _mistake(part):
            raise Refused(f"{path!r} {wrong}")
    return parts


def _mistake(part: str) -> str:
    """Return why a name is refused. Some systems read other letters, cases and endings as the same name: all count here."""
    if part == "..":
        return "leads upwards by '..'"
    if any(unicodedata.category(letter) in ("Cc", "Cf", "Cs") for letter in part):
        return "holds characters that cannot be seen"
    if len(part.encode()) > LONGEST_NAME:
        return f"holds a name of more than {LONGEST_NAME} bytes"
    plain = unicodedata.normalize("NFKC", part)
    if "\\" in plain or "/" in plain or plain.translate(_SLASHES) != plain:
        return "holds a character that is, or looks like, a separator"
    folded = plain.casefold().rstrip(". ").partition(":")[0].rstrip(". ")
    if not folded or re.match(r"[a-zA-Z]:", plain):
        return "holds a name that some systems read as another folder"
    if folded in PRIVATE or _SHORT_NAME.fullmatch(folded):
        return "lies in the folder of version control, which is closed here"
    return ""


_SLASHES: Final = {0x2044: "/", 0x2215: "/", 0x2216: "\\", 0x29F8: "/", 0x29F5: "\\", 0x29F9: "\\", 0xFE68: "\\"}


class Folder:
    """A folder that exists. Raises ValueError where it does not, or where this system cannot open files from a folder."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        if os.open not in os.supports_dir_fd or not hasattr(os, "O_NOFOLLOW"):
            raise ValueError("this system cannot keep to a folder safely (it needs Linux or macOS)")
        self.path = Path(os.path.realpath(path))
        if not self.path.is_dir():
            raise ValueError(f"there is no folder {os.fspath(path)!r}")
        if self.path == Path(self.path.anchor):
            raise ValueError("the root of all files is no project folder")
        self._status = os.stat(self.path)

    @contextlib.contextmanager
    def opened(self, parts: tuple[str, ...] = (), *, make: bool = False) -> Iterator[int]:
        """Yield the descriptor of a folder below; with ``make``, folders that are missing are made. Raises Refused."""
        here = self._root()
        try:
            for number, part in enumerate(parts, 1):
                deeper = self._step(here, part, "/".join(parts[:number]), make=make)
                os.close(here)
                here = deeper
            yield here
        finally:
            os.close(here)

    def _root(self) -> int:
        try:
            root = os.open(self.path, _FOLDER)
        except OSError:
            raise Refused("the project folder is gone") from None
        if not os.path.samestat(os.fstat(root), self._status):
            os.close(root)
            raise Refused("another folder stands where the project folder was")
        return root

    def _step(self, here: int, part: str, path: str, *, make: bool) -> int:
        if make:
            with contextlib.suppress(FileExistsError):
                os.mkdir(part, dir_fd=here)
        try:
            return os.open(part, _FOLDER, dir_fd=here)
        except FileNotFoundError:
            raise Refused(f"there is no folder {path!r}") from None
        except OSError:
            raise Refused(f"{path!r} is no folder, or a link, and links are not followed") from None

    def read(self, path: str) -> Opened:
        """Return what a file holds. Raises Refused."""
        parts = parts_of(path)
        if not parts:
            raise Refused(f"{path!r} is a folder")
        with self.opened(parts[:-1]) as folder:
            return read_at(folder, parts[-1], path)

    def find(self, path: str) -> Opened | None:
        """Return what a file holds, None where there is none yet. Raises Refused for what stands there and is no plain file."""
        parts = parts_of(path)
        here: tuple[str, ...] = ()
        with contextlib.ExitStack() as stack:
            for part in parts[:-1]:
                folder = stack.enter_context(self.opened(here))
                if not _exists(folder, part):
                    return None
                here = (*here, part)
            if not parts or not _exists(stack.enter_context(self.opened(here)), parts[-1]):
                return None
        return self.read(path)

    @contextlib.contextmanager
    def changing(self) -> Iterator[None]:
        """Keep others from changing files by a ``Folder`` meanwhile: in this process and in others. Raises Refused."""
        import fcntl

        with self.opened() as root:
            until = time.monotonic() + LOCK_SECONDS
            while not _locked(root):
                if time.monotonic() > until:
                    raise Refused(f"others have been changing files of this project for {LOCK_SECONDS:g} s; try again")
                time.sleep(0.005)
            try:
                yield
            finally:
                with contextlib.suppress(OSError):
                    fcntl.flock(root, fcntl.LOCK_UN)

    def write(self, path: str, data: bytes, before: Opened | None) -> None:
        """Put ``data`` in the place of ``before``, whole or not at all; mode and owner stay. To be called within ``changing``.

        Raises Refused where the file has changed since, and where it cannot be written.
        """
        parts = parts_of(path)
        if not parts:
            raise Refused(f"{path!r} is a folder")
        check_change(path, data, before)
        try:
            with self.opened(parts[:-1], make=True) as folder:
                self._replace(folder, parts[-1], path, data, before)
        except OSError as error:
            raise Refused(f"{path!r} cannot be written: {error.strerror or error}") from None

    def _replace(self, folder: int, name: str, path: str, data: bytes, before: Opened | None) -> None:
        new = f".flowcraft-{hashlib.sha256(name.encode()).hexdigest()[:16]}.tmp"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(new, dir_fd=folder)  # of a process that was killed over it: by ``changing`` nobody else is at it
        descriptor = os.open(new, _NEW, 0o666 if before is None else 0o600, dir_fd=folder)
        try:
            with os.fdopen(descriptor, "wb") as file:
                if before is not None:
                    _make_alike(file.fileno(), before.status)
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
                written = os.fstat(file.fileno())
            _check_same(folder, name, path, before)
            if not os.path.samestat(os.stat(new, dir_fd=folder, follow_symlinks=False), written):
                raise Refused(f"{path!r} is being written by others; read it again")  # where files cannot be locked
            os.rename(new, name, src_dir_fd=folder, dst_dir_fd=folder)  # a link that was put there is replaced, not followed
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(new, dir_fd=folder)


def check_change(path: str, data: bytes, before: Opened | None) -> None:
    """Raise Refused for what is too large for a file, and for a file that its user keeps from being changed."""
    if len(data) > LARGEST_FILE:
        raise Refused(f"{len(data):,} bytes are too many for a file; at most {LARGEST_FILE:,}")
    if before is not None and not before.status.st_mode & 0o222:
        raise Refused(f"{path!r} is read-only")


def _locked(folder: int) -> bool:
    import fcntl

    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True  # this file system has no locks; what changed meanwhile is found before a file is replaced
    return True


def _make_alike(descriptor: int, like: os.stat_result) -> None:
    """Give a new file the owner, as far as this account may, and the mode of the one in whose place it is put."""
    now = os.fstat(descriptor)
    if (now.st_uid, now.st_gid) != (like.st_uid, like.st_gid):
        with contextlib.suppress(PermissionError):
            os.fchown(descriptor, like.st_uid if os.geteuid() == 0 else -1, like.st_gid)
    os.fchmod(descriptor, stat.S_IMODE(like.st_mode) & 0o777)


def _exists(folder: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise Refused(f"{name!r} cannot be looked up: {error.strerror}") from None
    return True


def _check_same(folder: int, name: str, path: str, before: Opened | None) -> None:
    """Raise Refused where a file is not as it was when it was read, or may not be written to."""
    if before is None:
        if _exists(folder, name):
            raise Refused(f"{path!r} has come into being meanwhile; read it first")
        return
    try:
        now = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except OSError:
        raise Refused(f"{path!r} is gone meanwhile") from None
    then = before.status
    if not os.path.samestat(now, then) or (now.st_mtime_ns, now.st_size) != (then.st_mtime_ns, then.st_size):
        raise Refused(f"{path!r} has changed meanwhile; read it again")
    if not os.access(name, os.W_OK, dir_fd=folder):
        raise Refused(f"{path!r} is read-only")


def read_at(folder: int, name: str, path: str, most: int = LARGEST_FILE) -> Opened:
    """Return what the file ``name`` of an open folder holds; ``path`` is what it is called in errors. Raises Refused."""
    try:
        _check_plain(os.stat(name, dir_fd=folder, follow_symlinks=False), path)  # opening alone may do something to a device
        descriptor = os.open(name, _READ, dir_fd=folder)
    except FileNotFoundError:
        raise Refused(f"there is no file {path!r}") from None
    except OSError as error:
        raise Refused(f"{path!r} cannot be opened: {error.strerror or error}") from None
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(file.fileno())
        _check_plain(status, path)
        data = file.read(most + 1) if status.st_size <= most else b""
    if len(data) > most or status.st_size > most:
        raise Refused(f"{path!r} has more than {most:,} bytes, which is too large")
    return Opened(data, status)


def _check_plain(status: os.stat_result, path: str) -> None:
    if stat.S_ISLNK(status.st_mode):
        raise Refused(f"{path!r} is a link, and links are not followed")
    if stat.S_ISDIR(status.st_mode):
        raise Refused(f"{path!r} is a folder")
    if not stat.S_ISREG(status.st_mode):
        raise Refused(f"{path!r} is no plain file")
    if status.st_nlink > 1:
        raise Refused(f"{path!r} is a file that has another name besides, which may lie outside of the project folder")
