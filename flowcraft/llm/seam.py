"""Where one model's text ends and another's begins: what the second repeats of the first is left out.

A model that cannot be given the beginning of its answer is asked to repeat the last words of it before it goes on. Some do,
some repeat more, some go on at once; nothing is left out but a repetition.
"""

from __future__ import annotations

LAST_WORDS = 48
"""Characters that a model is asked to repeat, at most."""
WINDOW = 2000
"""Characters of the text so far among which a repetition is looked for, and that may be held back until it is certain."""
LEAST = 6
"""Characters that a repetition from the middle of a word has at least: shorter ones are chance (``la`` and ``land``)."""


def last_words(text: str) -> str:
    """Return the last words of ``text``, whole ones as far as there are spaces, without white space around them."""
    words = text.rstrip()
    tail = words[-LAST_WORDS:]
    if len(tail) < len(words) and not words[-LAST_WORDS - 1].isspace():
        _, space, behind = tail.partition(" ")
        tail = behind if space and behind else tail
    return tail.strip()


def repeated(old: str, new: str, *, ended: bool = True) -> int | None:
    """Return how many characters at the start of ``new`` repeat the end of ``old``; None if that needs more of ``new``.

    White space at the seam counts once. ``ended`` says that no more of ``new`` comes.
    """
    words = old.rstrip()[-WINDOW:]
    body = new.lstrip()
    lead = len(new) - len(body)
    if not ended and (not body or body in words):
        return None
    asked = last_words(words)
    if not ended and asked.startswith(body):
        return None
    same = len(asked) if asked and body.startswith(asked) else _overlap(words, body)
    space = old[len(old.rstrip()) :]
    if not same:
        return _common(space, new[:lead])
    rest = body[same:]
    gap = len(rest) - len(rest.lstrip())
    if space and not ended and gap == len(rest):
        return None
    return lead + same + (len(space) if rest.startswith(space) else gap if space else 0)


def _overlap(words: str, body: str) -> int:
    """Return the length of the longest start of ``body`` with which ``words`` end, if that is no chance."""
    for length in range(min(len(words), len(body)), 0, -1):
        if words.endswith(body[:length]) and _meant(words, length):
            return length
    return 0


def _meant(words: str, length: int) -> bool:
    same = words[-length:]
    if not any(map(str.isalnum, same)):
        return False
    if length == len(words) or not words[-length - 1].isalnum():
        return True
    return length >= LEAST and len(set(same)) > 2


def _common(space: str, gap: str) -> int:
    return next((length for length in range(len(gap), 0, -1) if space.endswith(gap[:length])), 0)


class Seam:
    """Takes a text that goes on from ``old`` piece by piece, and gives back what of it is to be shown."""

    def __init__(self, old: str) -> None:
        self._old = old[-2 * WINDOW :]
        self._held = ""
        self._open = True

    def add(self, piece: str) -> str:
        """Return what can be shown now; empty while it may be a repetition."""
        return self._shown(piece, ended=False) if self._open else piece

    def end(self) -> str:
        """Return what was held back and is no repetition."""
        return self._shown("", ended=True) if self._open else ""

    def _shown(self, piece: str, *, ended: bool) -> str:
        self._held += piece
        left_out = repeated(self._old, self._held, ended=ended)
        if left_out is None:
            return ""
        self._open = False
        return self._held[left_out:]
