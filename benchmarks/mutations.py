"""Mutate the files in workflows/ and read them: `python -m benchmarks.mutations [--count N] [--seed N]`.

Whatever was done to a file, the answer is a workflow or a WorkflowError whose every problem has a line and a column.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import shutil
import signal
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import yaml

if TYPE_CHECKING:
    from flowcraft import FlowCraft

ROOT = Path(__file__).parent.parent
LONGEST = 10
"""Seconds that one file may take."""

MARKS = [*"{}[]: \n\t'\"|>-,#%@`", "&a ", "*a", "!!str ", "<<: ", "---\n"]
ODD = [*"\x00\ud800\ufeff\u2028\x85é世😀", "\r\n", "9" * 400, "1e999", "[" * 120, "- " * 120, "{a: " * 120]
WORDS = [
    "null",
    "true",
    "item",
    "index",
    "iteration",
    "judge",
    "run",
    "env",
    "inputs",
    "stages",
    "finally",
    "each",
    "until",
    "max",
    "when",
    "needs",
    "output",
]
OPERATORS = [
    *["==", "<", "in", "and", "or", "not", "if", "else", "+", "**", "%", "is", ":=", "lambda", "for", ".", "..", ","],
    "not in",
]
PARTS = [
    "(",
    ")",
    "[0]",
    "[-1]",
    "['x']",
    ".x",
    ".__class__",
    "len(",
    "file('x')",
    "default(",
    "json(",
    "any(",
    "null",
    "0",
    "1e999",
]
TYPES = [
    "string",
    "integer",
    "number",
    "[string]",
    "[",
    "a|b",
    "|null",
    "any",
    "{x:string}",
    "=1",
    "(text)",
    "m:Model",
    "Finding",
]
VALUES: list[Any] = [
    None,
    True,
    0,
    -1,
    1e300,
    "",
    " ",
    "${{",
    "${{ }}",
    "${{ item }}",
    "$${{",
    [],
    {},
    [[]],
    {"": None},
    "x:y",
    "5m",
]
KEYS = ["stages", "prompt", "each", "when", "max", "judge", "x"]
EXPRESSION = re.compile(r"\$\{\{(.*?)\}\}|^\s*(?:when|each|until): (.*?)\s*(?:#|$)", re.MULTILINE)
TYPE = re.compile(r"^\s*(?:output|[a-z_]+): (.*(?:string|integer|number|boolean|Finding).*)$", re.MULTILINE)
TOKEN = re.compile(r"\w+|[^\w\s]")


class Mutator:
    """Changes a text in one to four places; the same seed makes the same changes."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def mutated(self, text: str) -> str:
        """Return a text that was changed somehow."""
        ways: list[Callable[[str], str]] = [self._text, self._lines, self._structure, self._expression, self._type]
        for _ in range(self.random.choice([1, 1, 1, 2, 3])):
            text = self.random.choice(ways)(text)
        return text

    def _text(self, text: str) -> str:
        place, length = self.random.randint(0, len(text)), self.random.choice([0, 0, 1, 1, 2, 5, 20, 80])
        piece = self.random.choice([*MARKS, *MARKS, *ODD, *WORDS, ""])
        return text[:place] + piece + text[place + length :]

    def _lines(self, text: str) -> str:
        """Take a line out, double it, move it, or change its indentation."""
        lines = text.split("\n")
        here, there = self.random.randrange(len(lines)), self.random.randrange(len(lines))
        way = self.random.randrange(4)
        line = lines.pop(here) if way != 1 else lines[here]
        if way in (1, 2):
            lines.insert(there, line)
        elif way == 3:
            lines.insert(here, " " * self.random.randint(0, 8) + line.lstrip())
        return "\n".join(lines)

    def _structure(self, text: str) -> str:
        """Change the values and keys of the document."""
        try:
            data = yaml.load(text, yaml.CSafeLoader)
        except (yaml.YAMLError, ValueError, RecursionError):
            return self._text(text)
        places = list(_places(data))
        if not places:
            return self._text(text)
        holder, key = self.random.choice(places)
        other, name = self.random.choice(places)
        way = self.random.randrange(5)
        if way == 0:
            del holder[key]
        elif way == 1:
            holder[key] = self.random.choice(VALUES)
        elif way == 2:
            holder[key] = json.loads(json.dumps(other[name], default=str))
        elif way == 3 and isinstance(holder, dict):
            holder[self.random.choice([*KEYS, name])] = holder.pop(key)
        else:
            holder[key] = [holder[key]]
        return yaml.dump(data, Dumper=yaml.CSafeDumper, sort_keys=False, allow_unicode=True, width=10_000)

    def _expression(self, text: str) -> str:
        return self._inside(text, EXPRESSION, [*OPERATORS, *PARTS, *WORDS])

    def _type(self, text: str) -> str:
        return self._inside(text, TYPE, TYPES)

    def _inside(self, text: str, place: re.Pattern[str], pieces: list[str]) -> str:
        """Change a token in one of the places, or put another beside it."""
        found = [match.span(group) for match in place.finditer(text) for group in range(1, place.groups + 1) if match[group]]
        if not found:
            return self._text(text)
        begin, end = self.random.choice(found)
        tokens = list(TOKEN.finditer(text, begin, end))
        if not tokens:
            return text[:begin] + self.random.choice(pieces) + text[end:]
        token = self.random.choice(tokens)
        piece = self.random.choice([*pieces, *(other[0] for other in tokens)])
        return text[: token.start()] + piece + (" " + token[0] if self.random.random() < 0.4 else "") + text[token.end() :]


def _places(data: Any) -> Iterator[tuple[Any, Any]]:
    """Give each value's holder and its key or index."""
    for key in data if isinstance(data, dict) else range(len(data)) if isinstance(data, list) else ():
        yield data, key
        yield from _places(data[key])


@dataclass(kw_only=True)
class Found:
    """What reading so many files came to."""

    seconds: list[float] = field(default_factory=list)
    ends: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


class Fuzz:
    """Reads mutations of the examples in a folder of their own, beside their functions."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "workflows"
        shutil.copytree(ROOT / "workflows", self.folder, ignore=shutil.ignore_patterns("__pycache__"))
        self.examples = {path: path.read_text("utf-8") for path in sorted(self.folder.glob("*.yaml"))}

    @cached_property
    def flow(self) -> FlowCraft:
        """FlowCraft without a key and without a history, to forecast with."""
        from flowcraft import FlowCraft
        from flowcraft.settings import Settings

        return FlowCraft(Settings(storage=f"sqlite:///{self.folder.parent}/none.db"))

    @cached_property
    def schema(self) -> Any:
        """The JSON Schema of the language, ready to validate."""
        from jsonschema.validators import validator_for

        from flowcraft.workflow import workflow_schema

        schema = workflow_schema({})
        return validator_for(schema)(schema)

    def run(self, seeds: range) -> Found:
        """Mutate and read; what is wrong is told with its seed."""
        found = Found()
        for seed in seeds:
            path = list(self.examples)[seed % len(self.examples)]
            text = Mutator(seed).mutated(self.examples[path])
            path.write_bytes(text.encode("utf-8", "surrogatepass"))
            begun = time.perf_counter()
            try:
                with at_most(LONGEST):
                    found.ends[self.read(path)] += 1
            except Exception as error:  # noqa: BLE001 - whatever comes is the finding
                found.wrong.append(f"seed {seed}, {path.name}: {type(error).__name__}: {error}")
            found.seconds.append(time.perf_counter() - begun)
            path.write_text(self.examples[path], "utf-8")
        return found

    def read(self, path: Path) -> str:
        """Return how reading ended. Raises AssertionError where a problem has no place."""
        from flowcraft.drawing import draw, mermaid, svg, terminal
        from flowcraft.errors import Problem, WorkflowError
        from flowcraft.workflow import Facts, check_workflow, load_workflow

        try:
            workflow = load_workflow(path)
            problems = tuple(check_workflow(workflow, Facts()))
        except WorkflowError as error:
            placed(error.problems or [Problem(message="refused without a problem")])
            return "refused"
        placed((*problems, *workflow.warnings))
        wrong = next(self.schema.iter_errors(json.loads(json.dumps(workflow.document.data))), None)
        assert wrong is None, f"loads, and the schema says: {list(wrong.absolute_path)}: {wrong.message[:200]}"
        if all(problem.warning for problem in problems):
            assert self.flow.plan(workflow).stages, "nothing was forecast"
        drawing = draw(workflow)
        assert all((terminal(drawing), mermaid(drawing))), "nothing was drawn"
        ElementTree.fromstring(svg(drawing))
        return "loaded"


def placed(problems: Any) -> None:
    """Raise AssertionError where a problem has no place, or cannot be printed."""
    for problem in problems:
        assert problem.line >= 1, problem.message
        assert problem.column >= 1, problem.message
        assert str(problem).encode()


@contextmanager
def at_most(seconds: int) -> Iterator[None]:
    """End what takes longer with TimeoutError."""

    def late(*_: object) -> None:
        raise TimeoutError(f"took more than {seconds} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def measure(rounds: int = 1) -> None:
    """Read 10,000 mutations a round."""
    main(["--count", str(10_000 * rounds)])


def main(arguments: list[str] | None = None) -> int:
    """Read so many mutations, print what it came to and how long the files took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="flowcraft-fuzz-") as folder:
        found = Fuzz(Path(folder)).run(range(given.seed, given.seed + given.count))
    median, worst = statistics.median(found.seconds) * 1000, max(found.seconds) * 1000
    told = ", ".join(f"{count:,} {end}" for end, count in sorted(found.ends.items(), reverse=True))
    print(f"{given.count:,} mutations from seed {given.seed}: {told}; median {median:.1f} ms, worst {worst:.0f} ms")
    print("\n".join(found.wrong))
    return 1 if found.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
