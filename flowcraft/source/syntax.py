"""What is wrong in a text that is no YAML, in plain words."""

from __future__ import annotations

import re

_NO_KEY = "a key was expected here"
_BEHIND = "something stands behind the value"

_PLAIN = (
    ("mapping values are not allowed", "a ':' where no key can stand", "check the indentation"),
    ("expected ',' or '}'", "a '{' that is not closed, or a missing comma", ""),
    ("expected ',' or ']'", "a '[' that is not closed, or a missing comma", ""),
    ("did not find expected key", _NO_KEY, "check the indentation"),
    ("expected <block end>, but found '<scalar>'", _NO_KEY, "check the indentation"),
    ("expected <block end>", "this does not belong here", "check the indentation"),
    ("expected '-' indicator", "an element ('- ...') was expected here", "check the indentation"),
    ("expected ':'", "a key without ':'", "write 'key: value'"),
    ("expected node content", "a value was expected here", ""),
    ("expected the node content", "a value was expected here", ""),
    ("unexpected end of stream", "a quote that is not closed", ""),
    ("expected alphabetic or numeric", "text that begins with '*' or '&'", ""),
    ("comment or line break", _BEHIND, ""),
    ("a comment or a line break", _BEHIND, ""),
    ("unknown escape", "an escape that is none", "write '\\\\' for one backslash, or use single quotes"),
    ("directive", "a line that begins with '%'", "take it out"),
)

_EXPRESSION = re.compile(r"""(?<!["'\w])\$\{\{.*?\}\}(?!["'\w])""")
_ENTRY = re.compile(r"^\s*(?:- +)*([A-Za-z_][\w.-]*):[ ]+(\S.*)$")
_LONGEST = 150
_STRANGE = tuple("'\"[{*&!%@`|>")


def in_plain_words(problem: str, character: str, line: str) -> tuple[str, str]:
    """Return a message and a hint for what the parser says; ``character`` of ``line`` stands at the place."""
    if "tab character" in problem or ("cannot start any token" in problem and character == "\t"):
        return "a tab in the indentation", "indent with spaces"
    if "Unicode character escape" in problem:
        return "half of a character (a lone surrogate)", "write the character itself"
    if character and character in "}]" and "expected" in problem:
        return f"a '{character}' that was not opened", ""
    trap = quoted_form(line)
    if "expected ',' or" in problem and not trap.startswith("write the expression"):
        trap = "inside {...}, text that holds brackets stands in quotes" if character and character in "[{" else ""
    if "unknown escape" in problem:
        trap = ""
    if "cannot start any token" in problem:
        return f"text cannot begin with {character!r}", trap or "put it in quotes"
    for theirs, ours, hint in _PLAIN:
        if theirs in problem:
            behind = trap and ours == _NO_KEY and not trap.startswith("write the expression")
            return _BEHIND if behind else ours, trap or hint
    return f"this is not YAML: {problem}", trap


def quoted_form(line: str) -> str:
    """Return how ``line`` is to be written so that YAML takes its value as text; empty when it has no such trap."""
    before = line.split("${{", 1)[0]
    if "${{" in line and ("{" in before or "[" in before):
        fixed = _EXPRESSION.sub(lambda found: quote(found[0]), line).strip()
        if fixed != line.strip():
            return f"write the expression in quotes: {fixed}"
    entry = _ENTRY.match(line)
    if entry is None:
        return ""
    if len(line) > _LONGEST:
        return ""
    key, value = entry[1], re.sub(r"\s+#.*$", "", entry[2]).rstrip()
    if value.startswith(_STRANGE) and _closed(value):
        return f"write the whole value in quotes: {key}: {quote(value)}"
    if ": " in value and not value.startswith(_STRANGE):
        return f"write the whole value in quotes: {key}: {quote(value)}"
    return ""


def quote(text: str) -> str:
    """Return ``text`` as a quoted YAML scalar, in the quotes that need no escapes if possible."""
    if '"' not in text and "\\" not in text:
        return f'"{text}"'
    return "'" + text.replace("'", "''") + "'"


def _closed(value: str) -> bool:
    """Say whether quotes and brackets end on this line: one that is left open is another mistake."""
    quotes = value.count('"') % 2 == 0 and value.count("'") % 2 == 0
    return quotes and value.count("[") == value.count("]") and value.count("{") == value.count("}")
