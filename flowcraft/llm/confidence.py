"""How sure an answer is: from its tokens' log probabilities, or from how well two answers to one question agree.

Public: ``sequence_confidence``, ``token_probability``, ``agreement``. Nothing here asks a model.
"""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import SequenceMatcher
from typing import Any

from flowcraft.plugin.chat import ChatRequest, ChatResponse, TokenLogprob

UNLIKELY = math.log(0.001)
"""What stands in for a log probability that was not told, only that it is very small."""

NOT_TOLD = -9000.0
"""Log probabilities below this are no figures: vendors write -9999.0 for a token that is not among the likeliest."""

SHORT_TEXT = 200
"""Characters of a text up to which two answers that mean the same are expected to be worded alike."""

# Chinese and Japanese have no spaces: a sign is a word there. Everything else is split where no letter or digit stands.
_SIGNS = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_SIGNS}]|\d+(?:[.,:]\d+)*|[^\W\d_{_SIGNS}]+(?:'[^\W\d_]+)*")

Places = dict[tuple[int, str | int], int]
"""The number of each place in a value, by the number of the place that holds it, and its name or index there."""


def token_probability(token: TokenLogprob) -> float:
    """Return the probability (0 to 1) that the model gave a token.

    A log probability is at most 0; rounding above it counts as 0. Where the vendor only says "very unlikely" (-9999.0), or
    gives no number at all, it is 0.001.
    """
    return math.exp(_logprob(token))


def sequence_confidence(tokens: Sequence[TokenLogprob]) -> float | None:
    """Return the confidence (0 to 1) of a text: the geometric mean of its tokens' probabilities; None without tokens.

    That is exp of the mean log probability, one over the text's perplexity: independent of length, and 1 only where every
    token was certain. (Length-normalised log probability: Malinin and Gales, Uncertainty Estimation in Autoregressive
    Structured Prediction, ICLR 2021.)
    """
    if not tokens:
        return None
    return math.exp(math.fsum(_logprob(token) for token in tokens) / len(tokens))


def agreement(first: Any, second: Any) -> float:
    """Return how well two answers to one question agree, from 0 to 1.

    Texts by their words, whatever the case, the punctuation and the spaces: the words that both have in the same order, as a
    share of all words of both. Texts that name different numbers do not agree at all. Anything else by its leaves: the
    share, of all places that one of them has, at which both hold the same; an integer equals the same number with a point.
    Meant for short texts: the time that long ones take grows with the square of their words.
    (Agreement of samples as a measure of confidence: Wang and others, Self-Consistency Improves Chain of Thought Reasoning,
    ICLR 2023.)
    """
    if isinstance(first, str) and isinstance(second, str):
        return _similarity(first, second)
    numbers: Places = {}
    ours, theirs = dict(_leaves(first, numbers)), dict(_leaves(second, numbers))
    places = ours.keys() | theirs.keys()
    same = sum(place in ours and place in theirs and _same(ours[place], theirs[place]) for place in places)
    return same / len(places)


def comparable(value: Any) -> bool:
    """Say whether two answers like ``value`` can be compared word by word: no text in it is long."""
    return all(not isinstance(leaf, str) or len(leaf) <= SHORT_TEXT for _, leaf in _leaves(value, {}))


def value_of(request: ChatRequest, response: ChatResponse) -> Any:
    """Return what an answer says, to be compared: its typed value, its tool calls by name and arguments, or its text."""
    if response.tool_calls:
        return [{"tool": call.name, "arguments": _arguments(call.arguments)} for call in response.tool_calls]
    return response.text if request.output is None else response.parsed


def _logprob(token: TokenLogprob) -> float:
    told = token.logprob
    if math.isnan(told) or told <= NOT_TOLD:
        return UNLIKELY
    return min(0.0, told)


def _arguments(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _words(text: str) -> list[str]:
    return _WORD.findall(unicodedata.normalize("NFKC", text).casefold().replace("’", "'"))


def _similarity(first: str, second: str) -> float:
    ours, theirs = _words(first), _words(second)
    if not ours and not theirs:
        return 1.0 if first.strip() == second.strip() else 0.0
    if sorted(word for word in ours if word[0].isdigit()) != sorted(word for word in theirs if word[0].isdigit()):
        return 0.0
    blocks = SequenceMatcher(None, ours, theirs, autojunk=False).get_matching_blocks()
    common = sum(block.size for block in blocks)
    return common / (len(ours) + len(theirs) - common)


def _leaves(value: Any, numbers: Places) -> Iterator[tuple[int, Any]]:
    """Yield every value that holds no other, with the number of its place; an empty list or mapping is a leaf itself.

    Places that ``numbers`` does not have yet are added to it.
    """
    waiting: list[tuple[int, Any]] = [(0, value)]
    while waiting:  # not by recursion, nor with the whole way to each place: models nest as deeply as they like
        place, value = waiting.pop()
        if isinstance(value, Mapping) and value:
            parts: Iterable[tuple[str | int, Any]] = value.items()
        elif isinstance(value, list | tuple) and value:
            parts = enumerate(value)
        else:
            yield place, value
            continue
        waiting += [(numbers.setdefault((place, name), len(numbers) + 1), part) for name, part in parts]


def _same(ours: Any, theirs: Any) -> bool:
    if isinstance(ours, str) and isinstance(theirs, str):
        return _words(ours) == _words(theirs) if _words(ours) else ours.strip() == theirs.strip()
    if isinstance(ours, bool) or isinstance(theirs, bool):
        return ours is theirs
    return bool(ours == theirs)
