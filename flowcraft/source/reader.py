"""YAML 1.2 text to a document with positions. Size, depth, aliases are bounded before anything is built."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from typing import Any, NoReturn

import yaml

from flowcraft.errors import Problem, SettingsError, WorkflowError
from flowcraft.source.document import Document, Node
from flowcraft.source.syntax import in_plain_words, quoted_form

MAX_BYTES = 1_000_000
MAX_DEPTH = 100
MAX_ALIAS_NODES = 10_000
_MAX_PROBLEMS = 50

_UNREADABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_INTEGER = re.compile(r"[-+]?[0-9]+")
_OTHER_INTEGER = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_WORDS = {
    "": None,
    "~": None,
    "null": None,
    "Null": None,
    "NULL": None,
    "true": True,
    "True": True,
    "TRUE": True,
    "false": False,
    "False": False,
    "FALSE": False,
}
_LONGEST_NUMBER = 300

_OPEN_BLOCK = re.compile(r":[ \t]+[|>][-+0-9]*$")

FileError = type[WorkflowError] | type[SettingsError]


def read_document(text: str | bytes, name: str, error: FileError) -> Document:
    """Read one YAML document; ``name`` is the file's name in messages. Raises ``error`` with every problem found."""
    return _Reader(decode(text, name, error), name).read(error)


def plain_document(text: str, name: str) -> Document:
    """Return a document that is one text, such as a prompt's own file."""
    return Document(text, name, Node(0, len(text), "text", text))


def decode(text: str | bytes, name: str, error: FileError) -> str:
    """Return ``text`` if it is at most 1 MB of UTF-8 without control characters; raises ``error``."""
    size = len(text)
    if isinstance(text, str) and size <= MAX_BYTES:
        size = len(text.encode("utf-8", "surrogatepass"))
    if size > MAX_BYTES:
        # Whoever reads files stops one byte behind the limit, and then the size is not known.
        told = f"{size / 1e6:.1f} MB" if size > MAX_BYTES + 1 else "more than 1 MB"
        message = f"the file has {told}; at most 1 MB is read"
        raise error(problems=[Problem(message=message, file=name, line=1, column=1)])
    if isinstance(text, bytes):
        text = _utf8(text, name, error)
    text = text.removeprefix("\ufeff")
    strange = _UNREADABLE.search(text)
    if strange is None:
        return text
    if "\ud800" <= strange[0] <= "\udfff":
        message, hint = "half of a character (a lone surrogate)", "write the character itself"
    else:
        message, hint = f"a control character ({strange[0]!r}); the file is not text", ""
    problem = plain_document(text, name).problem_at(strange.start(), message, hint)
    if strange[0] == "\0":
        problem = replace(problem, excerpt="", caret="")  # it may be a file of the system's: nothing of it is shown
    raise error(problems=[problem])


def _utf8(data: bytes, name: str, error: FileError) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as broken:
        before = data[: broken.start].decode("utf-8", "replace")
        line = re.split("\r\n|\r|\n", before)[-1]
        place = Problem(
            message=f"byte {data[broken.start]:#04x} is not UTF-8",
            hint="save the file as UTF-8",
            file=name,
            line=len(re.findall("\r\n|\r|\n", before)) + 1,
            column=len(line) + 1,
        )
        raise error(problems=[place]) from None


def resolve_scalar(text: str) -> Any:
    """Return what a plain scalar means in YAML 1.2: null, true, false, a number, else the text. Raises OverflowError."""
    if text in _WORDS:
        return _WORDS[text]
    if text[0] not in "+-.0123456789":
        return text
    if _INTEGER.fullmatch(text):
        if len(text) > _LONGEST_NUMBER:
            raise OverflowError(text)
        return int(text)
    if _OTHER_INTEGER.fullmatch(text):
        return int(text, 0)
    if _FLOAT.fullmatch(text):
        number = float(text)
        if not math.isfinite(number):
            raise OverflowError(text)
        return number
    return text


class _Stop(Exception):
    """Reading cannot go on."""


class _Reader:
    """Builds data and positions from the parser's events; nothing here recurses."""

    def __init__(self, text: str, name: str) -> None:
        self._blank = Document(text, name, Node(0, 0, "", None))
        self._text = text
        self._problems: list[Problem] = []
        self._open: list[tuple[Node, Node | None]] = []
        self._anchors: dict[str, Node | None] = {}
        self._anchor_of: dict[int, str] = {}
        self._added = 0
        self._root: Node | None = None
        self._documents = 0

    def read(self, error: FileError) -> Document:
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(self._text)
        try:
            while loader.check_event():
                self._take(loader.get_event())
        except yaml.MarkedYAMLError as broken:
            self._problems.append(self._syntax(broken))
        except _Stop:
            pass
        finally:
            loader.dispose()
        if self._problems:
            raise error(problems=self._problems)
        return Document(self._text, self._blank.name, self._root or Node(0, 0, "", None))

    def _take(self, event: Any) -> None:
        if isinstance(event, yaml.ScalarEvent):
            self._scalar(event)
        elif isinstance(event, yaml.CollectionStartEvent):
            self._begin(event)
        elif isinstance(event, yaml.CollectionEndEvent):
            self._end(event)
        elif isinstance(event, yaml.AliasEvent):
            self._alias(event)
        elif isinstance(event, yaml.DocumentStartEvent):
            self._documents += 1
            if self._documents > 1:
                self._stop(event, "a second document; a file holds one", "take '---' out")

    def _scalar(self, event: Any) -> None:
        start, end = event.start_mark.index, event.end_mark.index
        self._refuse_tag(event)
        node = Node(start, end, event.style or "", event.value)
        if self._expects_key():
            self._key(node)
            return
        if not event.style:
            try:
                node.value = resolve_scalar(event.value)
            except OverflowError:
                self._problem(start, "this number is too large", "put it in quotes if it is text", end)
        self._remember(event.anchor, node)
        self._add(node)

    def _begin(self, event: Any) -> None:
        start = event.start_mark.index
        self._refuse_tag(event)
        if self._expects_key():
            self._stop(event, "a key must be plain text", self._trap(event))
        if len(self._open) >= MAX_DEPTH:
            self._stop(event, f"nested deeper than {MAX_DEPTH}")
        mapping = isinstance(event, yaml.MappingStartEvent)
        node = Node(start, start + 1, "flow" if event.flow_style else "block", {} if mapping else [], children={})
        if event.anchor:
            self._anchors[event.anchor] = None
            self._anchor_of[id(node)] = event.anchor
        self._open.append((node, None))

    def _end(self, event: Any) -> None:
        node, _ = self._open.pop()
        if node.style == "flow":
            node.end = event.end_mark.index
        else:
            node.end = _first_end(node)
        self._remember(self._anchor_of.pop(id(node), None), node)
        self._add(node)

    def _alias(self, event: Any) -> None:
        if self._expects_key():
            self._stop(event, "a key must be plain text")
        if event.anchor not in self._anchors:
            self._stop(event, f"'*{event.anchor}' names no anchor", self._trap(event) or "put it in quotes if it is text")
        node = self._anchors[event.anchor]
        if node is None:
            self._stop(event, f"'*{event.anchor}' holds itself")
        self._added += node.size
        if self._added > MAX_ALIAS_NODES:
            self._stop(event, f"aliases add more than {MAX_ALIAS_NODES:,} values", "write less by alias")
        if len(self._open) + node.height > MAX_DEPTH:
            self._stop(event, f"nested deeper than {MAX_DEPTH}")
        self._add(node)

    def _expects_key(self) -> bool:
        return bool(self._open) and isinstance(self._open[-1][0].value, dict) and self._open[-1][1] is None

    def _key(self, node: Node) -> None:
        mapping = self._open[-1][0]
        name = node.value
        if name == "<<" and not node.style:
            self._problem(node.start, "'<<' is not carried out", "write the keys out", node.end)
        elif name == "":
            self._problem(node.start, "a key must not be empty", end=node.end)
        elif name in mapping.keys:
            first = self._line(mapping.keys[name].start)
            self._problem(node.start, f"the key '{name}' stands twice (first in line {first})", end=node.end)
        else:
            mapping.keys[name] = node
        self._open[-1] = (mapping, node)

    def _add(self, node: Node) -> None:
        if not self._open:
            self._root = node
            return
        parent, key = self._open[-1]
        children: dict[str | int, Node] = parent.children if parent.children is not None else {}
        if key is None:
            children[len(parent.value)] = node
            parent.value.append(node.value)
        else:
            children[key.value] = node
            parent.value[key.value] = node.value
            self._open[-1] = (parent, None)
        parent.size += node.size
        parent.height = max(parent.height, node.height + 1)

    def _remember(self, anchor: str | None, node: Node) -> None:
        if anchor:
            self._anchors[anchor] = node

    def _refuse_tag(self, event: Any) -> None:
        if event.tag is not None:
            hint = "put it in quotes if it is text"
            end = _index(event.end_mark) if isinstance(event, yaml.ScalarEvent) else 0
            self._problem(event.start_mark.index, f"tags like '{_short_tag(event.tag)}' are not carried out", hint, end)

    def _problem(self, start: int, message: str, hint: str = "", end: int = 0) -> None:
        self._problems.append(self._blank.problem_at(start, message, hint, end=end))
        if len(self._problems) >= _MAX_PROBLEMS:
            raise _Stop

    def _stop(self, event: Any, message: str, hint: str = "") -> NoReturn:
        self._problem(event.start_mark.index, message, hint, event.end_mark.index)
        raise _Stop

    def _trap(self, event: Any) -> str:
        return quoted_form(self._blank.line_at(event.start_mark.index))

    def _syntax(self, broken: yaml.MarkedYAMLError) -> Problem:
        begun = _index(broken.context_mark)
        place = _index(broken.problem_mark) if broken.problem_mark else begun
        said = broken.problem or ""
        if broken.context_mark and ("end of stream" in said or place >= len(self._text.rstrip())):
            place = begun
        message, hint = in_plain_words(said, self._text[place : place + 1], self._blank.line_at(place))
        if "not closed, or" in message and (opened := self._line(begun)) < self._line(place):
            message = message.replace(" that is not closed", f" (in line {opened}) that is not closed")
        elif "key" in message and _OPEN_BLOCK.search(self._text[:place].rstrip()):
            message, hint = "text that should stand below its key", "indent it further than the key"
        return self._blank.problem_at(place, message, hint)

    def _line(self, place: int) -> int:
        return self._blank.problem_at(place, "").line


def _index(mark: Any) -> int:
    return mark.index if mark else 0


def _first_end(node: Node) -> int:
    """Return where the first key or element of a block ends, so that a caret has something to stand under."""
    if node.keys:
        return next(iter(node.keys.values())).end
    return node.start + 1


def _short_tag(tag: str) -> str:
    return tag.replace("tag:yaml.org,2002:", "!!")
