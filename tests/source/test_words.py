"""Durations, and the nearest right name."""

from __future__ import annotations

import pytest

from flowcraft.source import did_you_mean, listed, nearest, parse_duration

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("written", "seconds"),
    [("500ms", 0.5), ("30s", 30), ("5m", 300), ("24h", 86400), ("7d", 604800), ("1.5h", 5400), (200, 200)],
)
def test_durations_are_seconds(written, seconds):
    assert parse_duration(written) == seconds


@pytest.mark.parametrize(
    "written", ["30", "5 min", "h", "", "-3s", "1h30m", "1e3s", True, -1, float("nan"), float("inf"), "9" * 20 + "s"]
)
def test_what_is_no_duration_is_refused(written):
    with pytest.raises(ValueError, match="duration"):
        parse_duration(written)


def test_nearest_name_is_found_in_any_case():
    assert nearest("Timout", ["timeout", "retry"]) == "timeout"
    assert did_you_mean("timout", ["timeout"]) == "did you mean 'timeout'?"


def test_far_names_are_not_offered():
    assert nearest("zebra", ["timeout"]) is None
    assert nearest("", ["timeout"]) is None
    assert nearest("x" * 5000, ["x" * 4999]) is None
    assert did_you_mean("zebra", ["timeout"]) == ""


def test_long_lists_are_cut():
    assert listed("abc") == "a, b, c"
    assert listed([str(number) for number in range(20)], 2) == "0, 1 and 18 more"
