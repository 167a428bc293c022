"""The reference of all settings as Markdown, made from the page itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel, BeforeValidator
from pydantic.fields import FieldInfo

from flowcraft.settings.environment import FILE_VARIABLE, PRESET_KEYS, VARIABLES
from flowcraft.settings.explain import ACTS_LATER
from flowcraft.settings.models import ProviderSettings, Seconds
from flowcraft.settings.page import Settings
from flowcraft.settings.problems import alternatives, item_of, model_of

BEGIN = "<!-- begin: made by `make generated`, do not edit -->"
END = "<!-- end -->"


def with_reference(page: str) -> str:
    """Return the Markdown page with what stands between its two marks made anew."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{reference_markdown()}\n{END}{after}"


def reference_markdown() -> str:
    """Return the tables of keys, environment names and presets."""
    parts = [_keys(), _variables(), _presets()]
    return "\n".join(line for part in parts for line in part)


def _keys() -> Iterator[str]:
    yield "### Keys\n"
    yield "*later* marks what is accepted and does not act yet. `<name>` is a name of your own.\n"
    yield from _table(("key", "type", "default", "meaning"))
    for path, field in _fields(Settings, ()):
        yield _row(f"`{'.'.join(path)}`", _type(field), _default(field), f"{field.description}{_later(path)}")
    yield _row(
        "`providers.<name>.<key>`", "", "", "the plugin's own keys, such as `base_url` and `api_key`; the plugin checks them"
    )
    yield ""


def _variables() -> Iterator[str]:
    yield "### Environment names\n"
    yield from _table(("name", "sets", "meaning"))
    yield _row(f"`{FILE_VARIABLE}`", "", "path of the settings file")
    yield _row("`FLOWCRAFT_PLUGINS`", "", "plugins that may be imported: `one,two`; `-three` denies one")
    yield _row("`FLOWCRAFT_DEBUG`", "", "`1` shows the traceback of a fault of FlowCraft itself")
    yield _row("`FLOWCRAFT_<SECTION>__<KEY>`", "any key", "as `FLOWCRAFT_LLM__TIMEOUT=30`; lists with commas, mappings as JSON")
    for variable in VARIABLES:
        keys = ", ".join(f"`{'.'.join(map(str, path))}`" for path in variable.paths)
        meaning = f"{variable.meaning}: {variable.replaced}" if variable.replaced else variable.meaning
        yield _row(f"`{variable.name}`", keys, meaning)
    yield ""


def _presets() -> Iterator[str]:
    yield "### Presets\n"
    yield "A provider of this name is there as soon as its key is in the environment, and a plugin for it is installed.\n"
    yield from _table(("provider", "key"))
    for name, variable in PRESET_KEYS:
        yield _row(f"`{name}`", f"`{variable}`")


def _fields(model: type[BaseModel], path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], FieldInfo]]:
    for name, field in model.model_fields.items():
        inner, item = model_of(field.annotation), model_of(item_of(field.annotation))
        if inner is not None:
            yield from _fields(inner, (*path, name))
        elif item is not None:
            yield from _fields(item, (*path, name, "<model>" if model is ProviderSettings else "<name>"))
        else:
            yield (*path, name), field


def _type(field: FieldInfo) -> str:
    if _is_duration(field.annotation, field.metadata):
        return "seconds"
    words = [_word(alternative) for alternative in alternatives(field.annotation) if alternative is not NoneType]
    return " or ".join(words)


def _word(annotation: Any) -> str:
    if get_origin(annotation) is Literal:
        return " ".join(f"`{word}`" for word in get_args(annotation))
    if get_origin(annotation) is tuple:
        return "list"
    if get_origin(annotation) is dict:
        return "mapping"
    return {bool: "true, false", int: "integer", float: "number", str: "text"}.get(annotation, "any")


def _is_duration(annotation: Any, metadata: Iterable[Any]) -> bool:
    wanted = next(mark for mark in get_args(Seconds) if isinstance(mark, BeforeValidator))
    inner = (get_args(alternative) for alternative in get_args(annotation) if get_origin(alternative) is Annotated)
    return wanted in metadata or any(wanted in marks for marks in inner)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True, validated_data={})
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    return f"`{value}`" if isinstance(value, str) else {"()": "none", "{}": "none"}.get(str(value), str(value))


def _later(path: tuple[str, ...]) -> str:
    key = ".".join(path)
    for prefix, acting in ACTS_LATER.items():
        if key == prefix or key.startswith(f"{prefix}."):
            return f" *(later, but for {' '.join(f'`{value}`' for value in acting)})*" if acting else " *(later)*"
    return ""


def _table(headings: tuple[str, ...]) -> Iterator[str]:
    yield _row(*headings)
    yield _row(*("---" for _ in headings))


def _row(*cells: str | None) -> str:
    return f"| {' | '.join((cell or '').replace('|', chr(92) + '|') for cell in cells)} |"
