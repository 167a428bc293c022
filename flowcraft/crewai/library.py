"""Loading the library crewai so that it neither reports home nor changes the process that it is loaded into."""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import sys
import threading
import warnings
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import Any

from flowcraft.errors import PluginError

INSTALL = "pip install 'flowcraft[crewai]'"

QUIET = {
    "CREWAI_DISABLE_TELEMETRY": "true",
    "CREWAI_TRACING_ENABLED": "false",
    "CREWAI_DISABLE_VERSION_CHECK": "true",
}
"""What the library is told by the environment, except where the user says otherwise there. OTEL_SDK_DISABLED is not among it:
it would end the user's own tracing."""

SETS = {"TOKENIZERS_PARALLELISM": "false"}
"""What the library's import sets in the environment by itself."""


def is_installed() -> bool:
    """Say whether the library is installed; it is not imported."""
    return find_spec("crewai") is not None


_LOADING = threading.RLock()
"""Held while the library loads: two threads would take each other's changes of the process for how it was."""


def load_library() -> Any:
    """Return the library crewai, imported and quiet; the first call takes seconds, and others wait for it.

    What its import does to the process is undone: names read from a ``.env`` file into the environment, ``warnings.warn``.
    Where the program has imported it already, what its telemetry took is given back. Raises PluginError.
    """
    with _LOADING:
        return _loaded()


def _loaded() -> Any:
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    if "crewai" in sys.modules:
        _silence()
        return sys.modules["crewai"]
    if not is_installed():
        raise PluginError(f"agents of CrewAI's need the library crewai, which is not installed; install it with: {INSTALL}")
    environment, warn, sets = dict(os.environ), warnings.warn, [*_of_files(), *SETS.items()]
    try:
        with warnings.catch_warnings():  # what it says of itself while it loads is nobody's business, nor are its filters
            warnings.simplefilter("ignore")
            return import_module("crewai")
    except UnicodeDecodeError as error:  # its import reads a file of the user's, and takes it for UTF-8
        files = " or ".join(_env_files()) or "a .env file"
        raise PluginError(f"the library crewai reads {files} when it loads, and that is not UTF-8: {error}") from error
    except (Exception, SystemExit) as error:  # 140 packages may raise what they like
        raise not_loaded(error) from error
    finally:
        warnings.warn = warn
        for name, content in sets:
            if name not in environment and os.environ.get(name) == content:  # what other threads set meanwhile stays
                del os.environ[name]


def not_loaded(error: BaseException) -> PluginError:
    """Return what to say where the library, or what we have of it, does not load."""
    told = " ".join(f"{type(error).__name__}: {error}".split())
    return PluginError(f"the library crewai cannot be imported ({told}); install it anew with: {INSTALL}")


def _of_files() -> list[tuple[str, str | None]]:
    """Return what the import may set of ``.env`` files: the same name may stand in both."""
    found: list[tuple[str, str | None]] = []
    for file in _env_files():
        with contextlib.suppress(ImportError, OSError, ValueError):  # a file that cannot be read sets nothing
            found += import_module("dotenv.main").DotEnv(file, override=False, encoding="utf-8").dict().items()
    return found


def _env_files() -> list[str]:
    """Return the files that the import may read: the nearest above the library, and above where the process stands."""
    spec = find_spec("crewai")
    library = Path(spec.origin).parent if spec is not None and spec.origin else Path.cwd()
    found = []
    for folder in (library, Path.cwd()):
        near = (os.path.join(each, ".env") for each in (folder, *folder.parents))
        found += [file for file in near if os.path.isfile(file)][:1]  # a virtual environment may be called .env too
    return list(dict.fromkeys(found))


def _silence() -> None:
    """Stop telemetry that began before it was told not to, and give back the signal handlers that it took."""
    module = sys.modules.get("crewai.telemetry.telemetry")
    telemetry = getattr(getattr(module, "Telemetry", None), "_instance", None)
    if telemetry is None or not getattr(telemetry, "ready", False):
        return
    if not telemetry._is_telemetry_disabled():  # the user wants it: the environment says so
        return
    telemetry.ready = False
    atexit.unregister(telemetry._shutdown)
    # Nothing is left to send: its thread ends, the collector is not looked up.
    telemetry._exporter.shutdown()
    telemetry.provider.shutdown()
    if threading.current_thread() is threading.main_thread():
        _give_back(getattr(telemetry, "_original_handlers", {}))


def _give_back(handlers: dict[int, Any]) -> None:
    for number, original in handlers.items():
        current = signal.getsignal(number)
        if original is not None and _is_telemetrys(current):
            signal.signal(number, original)


def _is_telemetrys(handler: FrameType | Any) -> bool:
    return getattr(handler, "__module__", "") == "crewai.telemetry.telemetry"
