"""The arithmetic of rate limits: the generic cell rate algorithm (ITU-T I.371), on seconds since the epoch.

Of each limit one number is kept: when all that was asked so far will have been earned back. A call may begin when that is
no further away than the burst allows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from flowcraft.llm.ports import Hold, Pace, Want

MINUTE = 60.0
AT_ONCE = 10
"""One part in so many of a minute's requests or tokens may be used at once; the rest is spread over the minute, so that no
60 seconds see more than the limit."""
FURTHEST = 3600.0
"""Seconds after which the tokens of any call are earned back, however many they were."""
ASTRAY = 60.0
"""Seconds: what would be earned back so much later than can be is the work of a clock that was set back, and forgotten."""
PLACE_LASTS = 30.0
TURN_LASTS = 2.0
"""Seconds after which the place of a call under way, and the turn of one that waits for a place, are lost unless they are
renewed: they belonged to a process that is gone."""


def pace(per_minute: int | None) -> Pace | None:
    """Return the pace of a limit: in any minute at most ``per_minute``, a tenth of them at once; None without a limit."""
    if per_minute is None:
        return None
    at_once = max(1, per_minute // AT_ONCE)
    interval = MINUTE / (per_minute - at_once + 1)
    return Pace(interval=interval, burst=at_once * interval)


def held_back(
    wants: Sequence[Want],
    tokens: int,
    now: float,
    rate: Callable[[str], tuple[float, float]],
    busy: Callable[[str], int],
) -> Hold | None:
    """Return what holds a call back the longest; None if it may begin.

    ``rate`` tells when requests and tokens of a limit will be earned back, ``busy`` how many calls are under way there or
    have waited for longer.
    """
    holds: list[Hold] = []
    for want in wants:
        if want.concurrent is not None and busy(want.name) >= want.concurrent:
            holds.append(Hold(name=want.name, unit="concurrent", seconds=0.0))
        if want.requests is None and want.tokens is None:
            continue
        requests_at, tokens_at = rate(want.name)
        if want.requests is not None and (seconds := _wait(want.requests, 1, now, requests_at, want.requests.burst)) > 0:
            holds.append(Hold(name=want.name, unit="requests", seconds=seconds))
        if want.tokens is not None and (seconds := _wait(want.tokens, tokens, now, tokens_at, FURTHEST)) > 0:
            holds.append(Hold(name=want.name, unit="tokens", seconds=seconds))
    return _longest(holds)


def taken(want: Want, tokens: int, now: float, rate: tuple[float, float]) -> tuple[float, float]:
    """Return when requests and tokens will be earned back once this call has begun."""
    of_requests, of_tokens = rate
    if want.requests is not None:
        of_requests = _owed(of_requests, now, want.requests.burst) + want.requests.interval
    if want.tokens is not None:
        of_tokens = min(_owed(of_tokens, now, FURTHEST) + tokens * want.tokens.interval, now + FURTHEST)
    return of_requests, of_tokens


def _wait(of: Pace, amount: int, now: float, earned: float, furthest: float) -> float:
    # What is more than the burst could never begin; it begins when all that came before is earned back.
    return _owed(earned, now, furthest) - now - max(0.0, of.burst - amount * of.interval)


def _owed(earned: float, now: float, furthest: float) -> float:
    return now if earned > now + furthest + ASTRAY else max(earned, now)


def _longest(holds: Iterable[Hold]) -> Hold | None:
    return max(holds, key=lambda hold: hold.seconds, default=None)
