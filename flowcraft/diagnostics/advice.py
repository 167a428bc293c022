"""Which model for which role, by what a test has shown."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from flowcraft.diagnostics.results import ModelTest

ROLES = ("primary", "duplicate", "reserve", "fallback")

WHAT_TO_DO = {
    "AuthenticationFailed": "its key is refused: check the key of its provider",
    "ModelNotFound": "its provider has no model of this name: check the name",
    "QuotaExhausted": "its account has nothing left",
    "ProviderTimeout": "it did not answer in time: give it a longer --timeout, or drop it",
    "RateLimited": "it is asked too often: wait, or set llm.limits",
    "InvalidRequest": "it refuses what it is asked: look at llm.params",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """Models by role in the order in which to ask them, those better dropped with the reason, and remarks."""

    roles: dict[str, tuple[str, ...]]
    drop: dict[str, str]
    notes: tuple[str, ...] = ()

    @property
    def settings(self) -> str:
        """The roles as a piece of settings.yaml; empty where no model works."""
        if not any(self.roles.values()):
            return ""
        lines = [f"    {role}: [{', '.join(map(_quoted, names))}]" for role, names in self.roles.items() if names]
        return "\n".join(["llm:", "  model_roles:", *lines, ""])


def advise(tests: Sequence[ModelTest]) -> Advice:
    """Recommend roles: the fastest that answered every time first, one of another family as its duplicate.

    What costs nothing or failed now and then comes last, as fallback; the rest is the reserve. A model that failed in more
    than half of its calls is better dropped; of one that was kept from being asked nothing is said.
    """
    able = sorted((test for test in tests if test.works and test.successes >= test.failures), key=_swiftness)
    steady = [test for test in able if test.steady] or able
    first = next((test for test in steady if not _free(test)), None) or next(iter(steady), None)
    roles: dict[str, list[str]] = {role: [] for role in ROLES}
    if first is not None:
        roles["primary"] = [first.name]
        rest = [test for test in steady if test is not first]
        other = next((test for test in rest if family(test) != family(first)), None)
        if other is not None:
            roles["duplicate"] = [other.name]
        left = [test for test in able if test is not first and test is not other]
        spare = [test for test in left if _free(test) or not test.steady]
        roles["reserve"] = [test.name for test in left if test not in spare]
        roles["fallback"] = [test.name for test in sorted(spare, key=lambda test: not test.steady)]
        if not roles["fallback"] and len(roles["reserve"]) > 1:
            roles["fallback"] = [roles["reserve"].pop()]
    return Advice(
        roles={role: tuple(names) for role, names in roles.items()},
        drop={test.name: _why(test) for test in tests if test not in able and not test.untested},
        notes=tuple(_notes(tests, roles)),
    )


def family(test: ModelTest) -> str:
    """Return whose model it is at heart: what is known, else the maker's name in front of a slash, else its first word."""
    if test.family:
        return test.family
    maker, slash, _ = test.model.partition("/")
    return maker.lower() if slash else re.split(r"[-_.:\d]", test.model.lower(), maxsplit=1)[0]


def _swiftness(test: ModelTest) -> int:
    """Return the seconds in steps of ten per cent: less says nothing, and of equals the first in settings stays first."""
    return round(math.log(max(test.response_time or 0.0, 0.001)) / math.log(1.1))


def _free(test: ModelTest) -> bool:
    return test.price is not None and not (test.price.input or test.price.output)


def _why(test: ModelTest) -> str:
    if test.skip:
        return f"it cannot be asked: {test.skip}"
    worst = next(iter(test.errors), "")
    told = WHAT_TO_DO.get(worst, "")
    failed = f"{test.failures} of {len(test.calls)} calls failed ({test.trouble})"
    return f"{failed}; {told}" if told else failed


def _notes(tests: Sequence[ModelTest], roles: dict[str, list[str]]) -> list[str]:
    notes = []
    if len(tests) > 1 and roles["primary"] and not roles["duplicate"]:
        notes.append(
            "No model of another family answered every time: a duplicate or a judge would share the primary's blind spots."
        )
    if untested := [test.name for test in tests if test.untested]:
        notes.append(f"Not tested, so nothing is said of them: {', '.join(untested)}.")
    if max((len(test.calls) for test in tests), default=0) == 1:
        notes.append("Each model was asked once: p50 and p95 mean something only with several rounds.")
    return notes


def _quoted(name: str) -> str:
    return json.dumps(name, ensure_ascii=False)
