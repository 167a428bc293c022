"""What a prompt says, without a model: its material, sentences, fields, numbers."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cached_property
from typing import Any

_MARKUP_LINE = re.compile(r"^\s*(?:[-=*_|:+\s]{3,}|\|.*\||</?[\w!-][^>]*>|\[?!\[.*)\s*$")
_FENCE = re.compile(r"^\s*(?:`{3}|~{3})")
_LINK = re.compile(r"\[([^\]\[]+)\]\([^()\s]*\)")
_EMPHASIS = re.compile(r"(?<!\w)(\*\*|__)(?=\S)(.+?)(?<=\S)\1(?!\w)")
_HEADING = re.compile(r"^\s*#{1,6}\s+(.*?)\s*#*\s*$")
_BULLET = re.compile(r"^\s*(?:[-*+•]|\d+[.)])\s+")
_SENTENCE_END = re.compile(r"(?<=[.!?…])[\"')\]]*\s+|(?<=[。！？])\s*")
_WORD = re.compile(r"\w+", re.UNICODE)
_IDEOGRAPH = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
_NUMBER = re.compile(r"(?<![\w.])[-+]?\d+(?:\.\d+)?(?![\w.]*\w)")
_TOO_SHORT_TO_BE_MATERIAL = 40


class PromptText:
    """Reads a prompt as an instruction and the material that it is about."""

    def __init__(self, text: str) -> None:
        self.text = text

    @cached_property
    def material(self) -> str:
        """What stands behind the instruction; the whole text where the two cannot be told apart."""
        lead_in = re.search(r":[ \t]*\n+(?=\s*\S)", self.text)
        if lead_in and len(self.text) - lead_in.end() >= _TOO_SHORT_TO_BE_MATERIAL:
            return self.text[lead_in.end() :]
        first, _, rest = self.text.strip().partition("\n\n")
        return rest if len(rest) > len(first) else self.text

    @cached_property
    def documents(self) -> list[Any]:
        """The JSON objects and lists in the text."""
        decoder = json.JSONDecoder()
        found: list[Any] = []
        end = 0
        for start in re.finditer(r"(?m)^\s*([\[{])", self.text):
            if start.start(1) < end:
                continue
            try:
                value, end = decoder.raw_decode(self.text, start.start(1))
            except (ValueError, RecursionError):
                continue
            found.append(value)
        return found

    @cached_property
    def sentences(self) -> list[str]:
        """The sentences of the material that say something, in their order, each once."""
        found = list(self._sentences_of_documents()) or list(_sentences(self.material)) or list(_sentences(self.text))
        return list(dict.fromkeys(found)) or [" ".join(self.text.split()) or "The request holds no text."]

    @cached_property
    def numbers(self) -> list[float]:
        """The numbers of the material."""
        return [float(number) for number in _NUMBER.findall(self.material)]

    @cached_property
    def title(self) -> str:
        """The first heading of the material, else its first sentence."""
        for line in self.material.splitlines():
            heading = _HEADING.match(line)
            if heading and heading[1]:
                return heading[1]
        return self.sentences[0]

    def field(self, name: str) -> Iterator[Any]:
        """Give what the text says of the field ``name``: as a JSON key, or as a line ``name: value``."""
        for document in self.documents:
            yield from _values(document, name)
        label = re.escape(name).replace("_", r"[ _-]")
        for line in re.finditer(rf"(?im)^[\W_]*{label}[*_\s]*[:=][*_]*[ \t]*(\S.*)$", self.material):
            yield line[1].strip().rstrip(",").strip("\"'`")

    def mentions(self, word: str) -> int | None:
        """Return where the material mentions ``word``, else where the whole text does, behind it; None if neither does."""
        spoken = re.compile(rf"(?i)(?<!\w){re.escape(word).replace('_', '[ _-]')}(?!\w)")
        found = spoken.search(self.material)
        if found:
            return found.start()
        found = spoken.search(self.text)
        return len(self.material) + found.start() if found else None

    def _sentences_of_documents(self) -> Iterator[str]:
        for document in self.documents:
            for leaf in _leaves(document):
                if _says_something(leaf):
                    yield from _sentences(leaf)


def _sentences(text: str) -> Iterator[str]:
    for paragraph in _paragraphs(text):
        for sentence in _SENTENCE_END.split(paragraph):
            told = " ".join(_EMPHASIS.sub(r"\2", _LINK.sub(r"\1", sentence)).split())
            if _says_something(told) and not told.endswith((":", "：")):
                yield told


def _paragraphs(text: str) -> Iterator[str]:
    lines: list[str] = []
    fenced = False
    for line in [*text.splitlines(), ""]:
        if _FENCE.match(line):
            fenced, line = not fenced, ""  # noqa: PLW2901 - code is no prose
        elif fenced:
            continue
        stands_alone = _HEADING.match(line) or _BULLET.match(line)
        if lines and (not line.strip() or stands_alone or _MARKUP_LINE.match(line)):
            yield " ".join(lines)
            lines = []
        if _MARKUP_LINE.match(line) or _HEADING.match(line):
            continue
        if line.strip():
            lines.append(_BULLET.sub("", line).strip())


def _says_something(text: str) -> bool:
    words = [word for word in _WORD.findall(text) if not word.isdigit()]
    return len(words) >= 3 or len(_IDEOGRAPH.findall(text)) >= 4


def _leaves(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _leaves(item)
    elif isinstance(value, list):
        for item in value:
            yield from _leaves(item)


def _values(value: Any, name: str) -> Iterator[Any]:
    if isinstance(value, dict):
        if name in value:
            yield value[name]
        for item in value.values():
            yield from _values(item, name)
    elif isinstance(value, list):
        for item in value:
            yield from _values(item, name)


def shortened(text: str, characters: int) -> str:
    """Return ``text`` cut at a word's end to at most so many characters."""
    if len(text) <= characters:
        return text
    cut = text[: max(characters - 1, 0)]
    space = cut.rfind(" ")
    return (cut[:space] if space > characters // 2 else cut).rstrip(" ,;:-") + "…"
