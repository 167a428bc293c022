"""Tables of figures: what a person sees of them, however wide the screen is."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from rich.text import Text

from flowcraft.cli.figures import Figures, number, rate, seconds, share, usd

pytestmark = pytest.mark.unit

KINDS = "ProviderTimeout 41, RateLimited 40, InvalidRequest 36, ProviderUnavailable 35, QuotaExhausted 24"


def shown(figures: Figures, width: int, *, terminal: bool = True) -> list[str]:
    console = Console(file=io.StringIO(), width=width, force_terminal=terminal, color_system=None, legacy_windows=False)
    figures.show(console)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


@pytest.fixture
def figures() -> Figures:
    made = Figures("calls of stage 'security_review'", *("calls", "ok", "p50", "p95", "p99", "first", "tok/s", "USD", "wins"))
    cells = [Text(cell) for cell in ("3,000", "94.1 %", "0.98 s", "2.62 s", "4.13 s", "0.20 s", "4,274", "3,300.00", "53")]
    made.add("one:m", cells)
    made.add("two:модель-очень-длинное-имя-утка🦆", cells, [Text(KINDS)])
    return made


def test_columns_stand_below_their_titles_on_a_narrow_screen(figures: Figures) -> None:
    lines = shown(figures, 80)
    assert lines == [
        "calls of stage 'security_review'",
        "            calls      ok     p50     p95     p99   first  tok/s       USD  wins",
        "one:m       3,000  94.1 %  0.98 s  2.62 s  4.13 s  0.20 s  4,274  3,300.00    53",
        "two:модель-очень-длинное-имя-утка🦆",
        "            3,000  94.1 %  0.98 s  2.62 s  4.13 s  0.20 s  4,274  3,300.00    53",
        "    ProviderTimeout 41, RateLimited 40, InvalidRequest 36, ProviderUnavailable",
        "    35, QuotaExhausted 24",
    ]


def test_a_wide_screen_has_room_for_names(figures: Figures) -> None:
    title, one, two, kinds = shown(figures, 140)
    assert title.startswith("calls of stage 'security_review'  ")
    assert len(title) == len(one) == len(two) + 1  # a duck is two columns wide
    assert kinds == f"    {KINDS}"


def test_where_it_is_no_screen_notes_stay_whole(figures: Figures) -> None:
    assert shown(figures, 80, terminal=False)[-1] == f"    {KINDS}"


def test_figures_read_well() -> None:
    assert [str(seconds(value)) for value in (0, 0.0012, 0.5, 12.34, 1234.5, None)] == [
        "0 ms",
        "1.2 ms",
        "0.50 s",
        "12.3 s",
        "1,234 s",
        "–",
    ]
    assert [str(share(value)) for value in (0, 0.0001, 0.9999, 1, None)] == ["0 %", "0.1 %", "99.9 %", "100 %", "–"]
    assert [str(usd(value)) for value in (0, 0.00001, 0.00005, 1.5, 1234.5, None)] == [
        "0.0000",
        "<0.0001",
        "0.0001",
        "1.5000",
        "1,234.50",
        "–",
    ]
    assert [str(rate(value)) for value in (0, 0.32, 9.4, 1234.5, None)] == ["0", "0.32", "9.4", "1,234", "–"]
    assert str(number(1.5, "g")) == "1.5"
