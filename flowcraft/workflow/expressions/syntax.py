"""Text to expressions: Python's grammar reads it; what is not of the language is refused."""

from __future__ import annotations

import ast
import keyword
import math
import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, ClassVar

from flowcraft.source import Position, did_you_mean
from flowcraft.workflow.expressions.expression import (
    FUNCTIONS,
    Attribute,
    Both,
    Call,
    Choice,
    Comparison,
    Constant,
    Expression,
    ExpressionError,
    Index,
    ListNode,
    Name,
    Node,
    Not,
    walk,
)

LONGEST = 1000
DEEPEST = 20

_TOKEN = re.compile(
    r"""(?P<space>[ \t\r\n\f\v]+)
      | (?P<text>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")
      | (?P<number>(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?)
      | (?P<name>[^\W0-9]\w*)
      | (?P<mark><=|>=|==|!=|[-+<>.,()\[\]])""",
    re.VERBOSE | re.DOTALL,
)
_ESCAPE = re.compile(r"""\\(?:[\\'"ntr]|x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|(.))""", re.DOTALL)
_GRAMMAR = frozenset({"and", "or", "not", "in", "if", "else"})
_CONSTANTS: Mapping[str, Any] = {"null": None, "true": True, "false": False}
_WRITE = {"None": "null", "True": "true", "False": "false"}
_MARKS = {
    "=": ("'=' compares nothing", "write '=='"),
    "&": ("'&' is not carried out", "write 'and'"),
    "|": ("'|' is not carried out", "write 'or'"),
    "!": ("'!' is not carried out", "write 'not'"),
    "{": ("an object cannot be written here", "compute it in a function ('run')"),
    "}": ("'}' has no place here", ""),
    ":": ("':' is not carried out: no slices, no objects", "compute it in a function ('run')"),
    "#": ("a comment cannot stand here", ""),
    "$": ("'$' has no place here", "an expression is written bare, without ${{ }}, in when and each"),
    "?": ("'?' is not carried out", "write: a if c else b"),
    ".": ("'...' has no place here", ""),
    "\u201c": ("a quote that is none", "write ' or \""),
    "\u201d": ("a quote that is none", "write ' or \""),
    "\u2018": ("a quote that is none", "write ' or \""),
    "\u2019": ("a quote that is none", "write ' or \""),
    "*": ("arithmetic is not carried out", "compute it in a function ('run')"),
    "/": ("arithmetic is not carried out", "compute it in a function ('run')"),
    "%": ("arithmetic is not carried out", "compute it in a function ('run')"),
    "'": ("a quote that is not closed", ""),
    '"': ("a quote that is not closed", ""),
    "\\": ("'\\' stands outside of quotes", ""),
}
_KEYWORDS = {
    "is": ("'is' is not carried out", "write '==', or '!=' for 'is not'"),
    "lambda": ("functions cannot be written here", "compute it in a function ('run')"),
    "for": ("comprehensions are not carried out", "compute it in a function ('run')"),
    "await": ("'await' is not carried out", ""),
}

_FOREIGN_FUNCTIONS = {
    "contains": "write: 'part' in text",
    **dict.fromkeys(("length", "size", "count"), "write len(x)"),
    **dict.fromkeys(("tojson", "to_json", "dumps"), "write json(x)"),
    **dict.fromkeys(("coalesce", "ifnull", "nvl"), "write default(a, b)"),
    "success": "leave it out: after a failure nothing new begins",
    **dict.fromkeys(("always", "failure", "cancelled"), "what runs after a failure too stands in 'finally'"),
}
_MEANT = {"<>": "write '!='", "||": "write 'or'", "=>": "write '>='", "=<": "write '<='"}

ReadFile = Callable[[str], str]


def no_files(path: str) -> str:
    """Refuse ``file()``."""
    raise ValueError("file() cannot be used here")


def parse_expression(text: str, read_file: ReadFile = no_files, position: Position | None = None) -> Expression:
    """Return the expression that ``text`` says. ``read_file`` raises ValueError. Raises ExpressionError."""
    if len(text) > LONGEST:
        raise ExpressionError(f"an expression of {len(text)} characters; at most {LONGEST}", width=len(text))
    _check_tokens(text)
    line = re.sub(r"[\r\n\t\f\v]", " ", text)
    indent = len(line) - len(line.lstrip())
    if not line.strip():
        raise ExpressionError("the expression is empty")
    try:
        tree = ast.parse(line.strip(), mode="eval")
    except SyntaxError as error:
        raise _syntax(error, line, indent) from None
    except (ValueError, MemoryError, RecursionError):
        raise ExpressionError(f"nested deeper than {DEEPEST}", width=len(text)) from None
    root = _Builder(line.strip(), indent, read_file).build(tree.body, 1)
    names, stages = _mentions(root)
    return Expression(text=text, root=root, names=names, run_stages=stages, position=position or Position())


def _check_tokens(text: str) -> None:
    """Refuse every word and sign that is not of the language, each at its place."""
    place, before, depth = 0, "", 0
    while place < len(text):
        found = None if text.startswith("...", place) else _TOKEN.match(text, place)
        if found is None:
            raise _strange(text, place)
        if found.lastgroup == "name":
            _check_name(found[0], before, place)
            if text[found.end() : found.end() + 1] in ("'", '"') and found[0] not in _GRAMMAR:
                raise ExpressionError("quoted text takes no prefix", "write '...'", offset=place, width=len(found[0]))
        elif found.lastgroup == "text":
            _check_text(found[0], place)
            if before[:1] in ("'", '"'):
                raise ExpressionError("two texts side by side are not joined", offset=place, width=len(found[0]))
        elif found.lastgroup == "number":
            _check_number(text, found[0], place)
        else:
            depth += (found[0] in "([") - (found[0] in ")]")
            if depth > DEEPEST and found.lastgroup == "mark":
                raise ExpressionError(f"nested deeper than {DEEPEST}", offset=place)
        if found.lastgroup != "space":
            before = found[0]
        place = found.end()


def _strange(text: str, place: int) -> ExpressionError:
    """Return the error of a character that begins no word and no sign."""
    character = text[place]
    if character.isspace():
        return ExpressionError(f"{character!r} is no plain space", "write a plain space", offset=place)
    if re.match(r"\|\s*[a-z]", text[place:]):
        hint = "write default(a, b)" if text[place + 1 :].lstrip().startswith("default") else "compute it in a function ('run')"
        return ExpressionError("'|' is not carried out: there are no filters", hint, offset=place)
    message, hint = _MARKS.get(character, (f"{character!r} has no place in an expression", ""))
    return ExpressionError(message, hint, offset=place)


def _check_name(name: str, before: str, place: int) -> None:
    if (read := unicodedata.normalize("NFKC", name)) != name:
        # Python would read the one for the other without a word.
        hint = f"write ['{name}']" if before == "." else f"write {read}"
        raise ExpressionError(f"'{name}' is not written as it is read: '{read}'", hint, offset=place, width=len(name))
    if before == ".":
        if keyword.iskeyword(name):
            raise ExpressionError(f"'{name}' is a word of the grammar", f"write ['{name}']", offset=place, width=len(name))
        if name.startswith("__"):
            raise ExpressionError("names that begin with '__' are not read", offset=place, width=len(name))
        return
    if name in _WRITE:
        raise ExpressionError(f"'{name}' is not of the language", f"write {_WRITE[name]}", offset=place, width=len(name))
    if keyword.iskeyword(name) and name not in _GRAMMAR:
        message, hint = _KEYWORDS.get(name, (f"'{name}' is not carried out", ""))
        raise ExpressionError(message, hint, offset=place, width=len(name))
    if name.startswith("__"):
        raise ExpressionError("names that begin with '__' are not read", offset=place, width=len(name))


def _check_text(quoted: str, place: int) -> None:
    for escape in _ESCAPE.finditer(quoted):
        if escape[1] is not None:
            hint = "write '\\\\' for one backslash"
            raise ExpressionError(f"'{escape[0]}' is no escape", hint, offset=place + escape.start(), width=2)


def _check_number(text: str, number: str, place: int) -> None:
    behind = text[place + len(number) : place + len(number) + 1]
    if behind == "_" or behind.isalnum():
        raise ExpressionError(f"'{number}{behind}...' is no number", offset=place, width=len(number) + 1)
    if number.lstrip("0") != number and number.isdigit() and number.strip("0"):
        raise ExpressionError("a number does not begin with 0", offset=place, width=len(number))


def _syntax(error: SyntaxError, line: str, indent: int) -> ExpressionError:
    message = error.msg.split(".")[0]
    last = re.split(r"\s", line.strip())[-1]
    if last in _GRAMMAR or last[-1] in "<>=!.,+-":
        return ExpressionError("the expression ends too early", offset=len(line.rstrip()) - 1)
    offset = max((error.offset or 1) - 1, 0)
    width, hint = 1, ""
    if error.end_offset and error.end_lineno == error.lineno:
        width = max(error.end_offset - 1 - offset, 1)
    if message.startswith("invalid syntax"):
        rest = line.strip()[offset:].strip()
        word = rest.split()[0] if rest else ""
        message = f"'{word}' was not expected here" if rest else "the expression ends too early"
        hint = _MEANT.get(word) or (f"write {word.lower()}" if word.lower() in _GRAMMAR else "")
        hint = hint or (f"write [{word[1:]}]" if re.fullmatch(r"\.[0-9]+", word) else "")
    elif "was never closed" in message:
        message = f"a '{line.strip()[offset : offset + 1]}' that is not closed"
    elif "too many nested" in message:
        message = f"nested deeper than {DEEPEST}"
    elif message.startswith("unmatched"):
        message = f"a '{line.strip()[offset : offset + 1]}' that was not opened"
    elif "expected 'else'" in message:
        message = "'if' without 'else'; write: a if c else b"
    return ExpressionError(message, hint, offset=min(offset + indent, max(len(line) - 1, 0)), width=width)


_COMPARISONS: Mapping[type[ast.cmpop], str] = {
    ast.Eq: "==",
    ast.NotEq: "!=",
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
    ast.In: "in",
    ast.NotIn: "not in",
}


class _Builder:
    """Turns Python's tree into ours, node by node; what is not on the list is refused."""

    makers: ClassVar[Mapping[type[ast.expr], str]] = {
        ast.Constant: "constant",
        ast.Name: "name",
        ast.Attribute: "attribute",
        ast.Subscript: "subscript",
        ast.List: "list",
        ast.BoolOp: "both",
        ast.UnaryOp: "unary",
        ast.IfExp: "choice",
        ast.Compare: "comparison",
        ast.Call: "call",
    }

    def __init__(self, line: str, indent: int, read_file: ReadFile) -> None:
        self.line = line
        self.indent = indent
        self.read_file = read_file
        self.bytes = None if line.isascii() else line.encode()

    def build(self, node: ast.expr, depth: int) -> Node:
        place = self.place(node)
        if depth > DEEPEST:
            raise ExpressionError(f"nested deeper than {DEEPEST}", offset=place["start"])
        maker = self.makers.get(type(node))
        if maker is None:
            raise self.refused(node)
        made: Node = getattr(self, maker)(node, depth)
        return replace(made, **place)

    def place(self, node: ast.expr) -> dict[str, int]:
        """Return start and end in characters; Python counts bytes."""
        start, end = node.col_offset, node.end_col_offset or node.col_offset + 1
        if self.bytes is not None:
            start, end = len(self.bytes[:start].decode()), len(self.bytes[:end].decode())
        return {"start": start + self.indent, "end": end + self.indent}

    def error(self, node: ast.expr, message: str, hint: str = "") -> ExpressionError:
        place = self.place(node)
        return ExpressionError(message, hint, offset=place["start"], width=place["end"] - place["start"])

    def refused(self, node: ast.expr) -> ExpressionError:
        run = "compute it in a function ('run')"
        if isinstance(node, ast.BinOp):
            return self.error(node, "arithmetic is not carried out", run)
        if isinstance(node, ast.Tuple):
            return self.error(node, "several values", "write a list: [a, b]")
        return self.error(node, "this is not part of the language", run)

    def constant(self, node: ast.Constant, depth: int) -> Node:
        value: Any = node.value
        if not isinstance(value, str | int | float):
            raise self.refused(node)
        if isinstance(value, float) and not math.isfinite(value):
            raise self.error(node, "this number is too large")
        if isinstance(value, str) and any("\ud800" <= character <= "\udfff" for character in value):
            raise self.error(node, "half of a character (a lone surrogate)")
        return Constant(constant=value)

    def name(self, node: ast.Name, depth: int) -> Node:
        if node.id in _CONSTANTS:
            return Constant(constant=_CONSTANTS[node.id])
        if node.id in FUNCTIONS:
            raise self.error(node, f"'{node.id}' is a function", FUNCTIONS[node.id])
        return Name(name=node.id)

    def attribute(self, node: ast.Attribute, depth: int) -> Node:
        end = self.place(node)["end"]
        return Attribute(of=self.build(node.value, depth + 1), name=node.attr, name_start=end - len(node.attr))

    def subscript(self, node: ast.Subscript, depth: int) -> Node:
        return Index(of=self.build(node.value, depth + 1), index=self.build(node.slice, depth + 1))

    def list(self, node: ast.List, depth: int) -> Node:
        return ListNode(elements=tuple(self.build(element, depth + 1) for element in node.elts))

    def both(self, node: ast.BoolOp, depth: int) -> Node:
        word = "and" if isinstance(node.op, ast.And) else "or"
        return Both(word=word, operands=tuple(self.build(operand, depth + 1) for operand in node.values))

    def unary(self, node: ast.UnaryOp, depth: int) -> Node:
        operand = self.build(node.operand, depth + 1)
        if isinstance(node.op, ast.Not):
            return Not(operand=operand)
        number = operand.constant if isinstance(operand, Constant) else None
        if isinstance(number, bool) or not isinstance(number, int | float):
            raise self.error(node, "a sign stands only before a number", "compute it in a function ('run')")
        return Constant(constant=-number if isinstance(node.op, ast.USub) else number)

    def choice(self, node: ast.IfExp, depth: int) -> Node:
        condition, then, otherwise = (self.build(part, depth + 1) for part in (node.test, node.body, node.orelse))
        return Choice(condition=condition, then=then, otherwise=otherwise)

    def comparison(self, node: ast.Compare, depth: int) -> Node:
        words = [_COMPARISONS.get(type(word), "is") for word in node.ops]
        if "is" in words:
            raise self.error(node, "'is' is not carried out", "write '=='")
        operands = [self.build(operand, depth + 1) for operand in node.comparators]
        return Comparison(first=self.build(node.left, depth + 1), rest=tuple(zip(words, operands, strict=True)))

    def call(self, node: ast.Call, depth: int) -> Node:
        if not isinstance(node.func, ast.Name):
            raise self.error(node, "values cannot be called", f"the functions are: {', '.join(FUNCTIONS)}")
        name = node.func.id
        if name not in FUNCTIONS:
            hint = _FOREIGN_FUNCTIONS.get(name.lower(), "") or did_you_mean(name, FUNCTIONS)
            hint = hint or f"the functions are: {', '.join(FUNCTIONS)}"
            raise self.error(node.func, f"unknown function '{name}'", hint)
        if node.keywords or any(isinstance(argument, ast.Starred) for argument in node.args):
            raise self.error(node, f"{name}() takes plain values", FUNCTIONS[name])
        if (name == "default" and not node.args) or (name != "default" and len(node.args) != 1):
            raise self.error(node, f"{name}() with {len(node.args)} values", FUNCTIONS[name])
        if name == "file":
            return self.file(node.args[0])
        return Call(function=name, arguments=tuple(self.build(argument, depth + 1) for argument in node.args))

    def file(self, node: ast.expr) -> Node:
        if not isinstance(node, ast.Constant) or not isinstance(node.value, str):
            raise self.error(node, "the path of file() is written out", FUNCTIONS["file"])
        try:
            return Constant(constant=self.read_file(node.value), file=node.value)
        except ValueError as error:
            raise self.error(node, str(error), getattr(error, "hint", "")) from None


def _mentions(root: Node) -> tuple[frozenset[str], frozenset[str]]:
    """Return the names that an expression mentions, and the stages among them that it mentions through ``run.stages``."""
    names, stages = set(), set()
    for node in walk(root):
        if isinstance(node, Name):
            names.add(node.name)
        stage = run_stage(node)
        if stage is not None:
            stages.add(stage)
    return frozenset(names), frozenset(stages)


def run_stage(node: Node) -> str | None:
    """Return NAME where ``node`` is ``run.stages.NAME``."""
    if isinstance(node, Attribute):
        around, name = node.of, node.name
    elif isinstance(node, Index) and isinstance(node.index, Constant) and isinstance(node.index.constant, str):
        around, name = node.of, node.index.constant
    else:
        return None
    if isinstance(around, Attribute) and around.name == "stages" and around.of == Name(name="run"):
        return name
    return None
