"""The report of a test, for people as Markdown and for programs as JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from flowcraft.attempts import spent_usd
from flowcraft.diagnostics.advice import ROLES, Advice
from flowcraft.diagnostics.results import ModelTest, fastest_first, plain
from flowcraft.errors import FlowCraftError
from flowcraft.llm.ports import ModelStatistics

VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A whole test: what was asked, what came of it, what was known before, what is recommended."""

    tests: Sequence[ModelTest]
    advice: Advice
    known: Mapping[str, ModelStatistics]
    asked: Mapping[str, Any]

    @property
    def usd(self) -> float | None:
        """What the test cost, as far as prices are known."""
        return spent_usd(call for test in self.tests for call in test.calls)

    def as_json(self) -> dict[str, Any]:
        """Return everything as plain data."""
        calls = [call for test in self.tests for call in test.calls]
        return {
            "v": VERSION,
            "started": _moment(self.asked["started"]),
            "seconds": self.asked["seconds"],
            "prompt": self.asked["prompt"],
            "rounds": self.asked["rounds"],
            "timeout": self.asked["timeout"],
            "summary": {
                "models": len(self.tests),
                "working": sum(test.works for test in self.tests),
                "failed": sum(not test.works and not test.skip for test in self.tests),
                "not_asked": sum(bool(test.skip) for test in self.tests),
                "calls": len(calls),
                "successes": sum(call.outcome == "ok" for call in calls),
                "failures": sum(call.outcome != "ok" for call in calls),
                "usd": self.usd,
            },
            "models": [
                {**test.as_json(), "statistics": asdict(self.known[test.id]) if test.id in self.known else None}
                for test in self.tests
            ],
            "recommendations": {
                "roles": {role: list(names) for role, names in self.advice.roles.items()},
                "drop": self.advice.drop,
                "notes": list(self.advice.notes),
                "settings": self.advice.settings,
            },
        }

    def as_markdown(self) -> str:
        """Return the report as a page."""
        parts = [self._head(), self._availability(), self._times(), self._errors(), self._before(), self._advice()]
        return "\n\n".join(part for part in parts if part) + "\n"

    def _head(self) -> str:
        data = self.as_json()
        summary = data["summary"]
        first = next(iter(fastest_first(self.tests)), None)
        lines = [
            "# Test of models",
            "",
            f"{data['started']}, {data['seconds']:.1f} s. Each model was asked "
            + (f"{data['rounds']} times" if data["rounds"] > 1 else "once")
            + f", for {data['timeout']:g} s at most: {_code(data['prompt'])}",
            "",
            f"- **{summary['working']} of {summary['models']} models work**"
            + (f"; {summary['failed']} failed" if summary["failed"] else "")
            + (f"; {summary['not_asked']} could not be asked" if summary["not_asked"] else ""),
            f"- {summary['calls']} calls: {summary['successes']} answered, {summary['failures']} failed",
            f"- cost: {_usd(self.usd)}",
        ]
        if first is not None:
            lines.append(f"- the fastest: {_code(first.name)}, {_seconds(first.response_time)}")
        return "\n".join(lines)

    def _availability(self) -> str:
        rows = [
            (
                _code(test.name),
                _text(test.provider),
                _text(", ".join(test.roles)),
                "not asked" if test.skip else "works" if test.steady else "unsteady" if test.works else "**fails**",
                f"{test.successes} of {len(test.calls)}" if test.calls else "",
                _text(test.trouble),
            )
            for test in self.tests
        ]
        return "## Availability\n\n" + _table(("model", "provider", "role", "state", "answered", "why"), rows)

    def _times(self) -> str:
        working = fastest_first(self.tests)
        if not working:
            return ""
        rows = [
            (
                _code(test.name),
                _seconds(test.times[0]),
                _seconds(test.response_time),
                _seconds(test.p95),
                str(test.successes),
                str(test.failures),
                _usd(test.usd),
                _text(test.text),
            )
            for test in working
        ]
        titles = ("model", "best", "p50", "p95", "answered", "failed", "cost", "answer")
        return "## Response times\n\n" + _table(titles, rows, right=range(1, 7))

    def _errors(self) -> str:
        rows = [
            (_code(test.name), kind, str(number), _text(test.message(kind)))
            for test in self.tests
            for kind, number in test.errors.items()
        ]
        return "## Errors\n\n" + _table(("model", "class", "times", "message"), rows) if rows else ""

    def _before(self) -> str:
        rows = []
        for test in self.tests:
            known = self.known.get(test.id)
            if known is not None:
                kinds = sorted(known.errors_by_class.items(), key=lambda item: -item[1])
                rows.append(
                    (
                        _code(test.name),
                        str(known.calls),
                        str(known.successes),
                        _seconds(known.p50),
                        _seconds(test.response_time),
                        _seconds(known.p95),
                        _seconds(test.p95),
                        _text(", ".join(f"{kind} {number}" for kind, number in kinds)),
                    )
                )
        if not rows:
            return ""
        titles = ("model", "calls before", "answered", "p50 before", "p50 now", "p95 before", "p95 now", "errors before")
        told = "What the database knew of these models when the test began, with longer questions than this one perhaps."
        return f"## Before this test\n\n{told}\n\n" + _table(titles, rows, right=range(1, 7))

    def _advice(self) -> str:
        advice = self.advice
        lines = ["## Recommendations", ""]
        why = {
            "primary": "the fastest that answered every time",
            "duplicate": "of another family: the second of two answers, or the judge",
            "reserve": "where those fail",
            "fallback": "last: free, slow or unsteady",
        }
        filled = [role for role in ROLES if advice.roles[role]]
        lines += [f"- **{role}**: {', '.join(map(_code, advice.roles[role]))} ({why[role]})" for role in filled]
        lines += [f"- **drop** {_code(name)}: {_text(reason)}" for name, reason in advice.drop.items()]
        lines += [f"- {note}" for note in advice.notes]
        if advice.settings:
            lines += ["", "For `settings.yaml`:", "", "```yaml", advice.settings.rstrip("\n"), "```"]
        elif not self.tests:
            lines.append("- No model is configured: set a key in the environment, or name a provider in settings.yaml.")
        else:
            lines.append("- No model works: see the errors above.")
        return "\n".join(lines)


def write_markdown(report: Report, path: str | Path | None) -> Path:
    """Write the page and return where. Raises FlowCraftError where that cannot be."""
    return _write(_place(path, report, "md"), report.as_markdown())


def write_json(report: Report, path: str | Path | None) -> Path:
    """Write the data and return where. Raises FlowCraftError where that cannot be."""
    return _write(_place(path, report, "json"), json.dumps(report.as_json(), ensure_ascii=False, indent=2) + "\n")


def _place(path: str | Path | None, report: Report, ending: str) -> Path:
    if path is not None:
        return Path(path)
    moment = datetime.fromtimestamp(report.asked["started"], UTC)
    return Path(f"models-test-{moment:%Y%m%d-%H%M%S}.{ending}")


def _write(path: Path, text: str) -> Path:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.encode("utf-8", "replace").decode("utf-8"), encoding="utf-8")
    except OSError as error:
        raise FlowCraftError(f"the report cannot be written to {path}: {error.strerror or error}") from None
    return path


def _moment(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"


def _table(titles: Sequence[str], rows: Iterable[Sequence[str]], right: Iterable[int] = ()) -> str:
    numbers = set(right)
    rules = ["---:" if column in numbers else "---" for column in range(len(titles))]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (titles, rules, *rows))


def _seconds(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds:.2f} s"


def _usd(usd: float | None) -> str:
    return "?" if usd is None else f"${usd:.6f}".rstrip("0").rstrip(".") if usd else "$0"


def _text(text: str) -> str:
    """Return text that others wrote as one line of a table, with nothing in it that Markdown or HTML takes for its own."""
    line = plain(text)
    return re.sub(r"([\\`*_\[\]|~])", r"\\\1", line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;"))


def _code(text: str) -> str:
    line = plain(text).replace("|", "\\|")
    return f"`` {line} ``" if "`" in line else f"`{line}`"
