"""The settings of a stage: those that ``defaults`` may hold too, and those that say how good an answer is wanted."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from flowcraft.source import did_you_mean, listed
from flowcraft.workflow.expressions.template import OPENING, Template
from flowcraft.workflow.loading.reading import Path, Reading, plain_kind
from flowcraft.workflow.schema import Judge, Retry, Value
from flowcraft.workflow.words import JUDGE_KEYS, STRATEGIES

MOST_PARALLEL = 10_000
MOST_RETRIES = 1_000
LONGEST_PAUSE = 300.0
"""Seconds; no pause between two goes is longer."""
MOST_TRIES = 1_000

_NUMBER, _WHOLE, _TEXT = ("number",), ("integer",), ("string",)

PARAMS: Mapping[str, tuple[str, ...]] = {
    "temperature": _NUMBER,
    "top_p": _NUMBER,
    "max_tokens": _WHOLE,
    "stop": ("string", "array"),
    "seed": _WHOLE,
    "presence_penalty": _NUMBER,
    "frequency_penalty": _NUMBER,
    "logprobs": ("boolean",),
    "top_logprobs": _WHOLE,
    "min_p": _NUMBER,
    "grammar": _TEXT,
    "reasoning": ("string", "object"),
    "user": _TEXT,
    "extra": ("object",),
}
"""What ``params`` may hold, and of which JSON types each is. What one vendor alone has stands in ``extra``."""

_LIMITS: Mapping[str, tuple[float, float]] = {
    "temperature": (0, math.inf),
    "top_p": (0, 1),
    "max_tokens": (1, math.inf),
    "top_logprobs": (0, 20),
    "min_p": (0, 1),
}
"""The least and the most that no vendor goes beyond."""

_KINDS: Mapping[str, tuple[tuple[type, ...], str]] = {
    "number": ((int, float), "a number"),
    "integer": ((int,), "a whole number"),
    "string": ((str,), "text"),
    "array": ((list,), "a list"),
    "boolean": ((bool,), "true or false"),
    "object": ((dict,), "a mapping"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class StageSettings:
    """What was written; None where nothing was."""

    model: str | Template | None = None
    params: Mapping[str, Value] = field(default_factory=dict)
    params_from: Template | None = None
    timeout: float | Template | None = None
    cache: float | Template | None = None
    retry: Retry | None = None
    parallel: int | Template | None = None
    max: int | Template | None = None
    strategy: str | None = None
    judge: Judge | None = None
    confidence: float | None = None


def read_settings(reading: Reading, base: Path, data: Mapping[str, Any], stage: str) -> StageSettings:
    """Read those of the settings that ``data`` holds."""

    def given(key: str) -> tuple[Path, Any]:
        return (*base, key), data.get(key)

    # Those of the file's defaults are completed key by key, so that there they are named.
    whole = bool(stage) and _has_template(data.get("params"))
    return StageSettings(
        model=_model(reading, *given("model"), stage) if "model" in data else None,
        params=_params(reading, *given("params"), stage) if "params" in data and not whole else {},
        params_from=_whole(reading, *given("params"), "params", stage) if whole else None,
        timeout=_duration(reading, *given("timeout"), stage) if "timeout" in data else None,
        cache=_duration(reading, *given("cache"), stage) if "cache" in data else None,
        retry=_retry(reading, *given("retry")) if "retry" in data else None,
        parallel=_parallel(reading, *given("parallel"), stage) if "parallel" in data else None,
        max=_max(reading, *given("max"), stage) if "max" in data else None,
        strategy=_strategy(reading, *given("strategy")) if "strategy" in data else None,
        judge=_judge(reading, *given("judge"), stage) if "judge" in data else None,
        confidence=_confidence(reading, *given("confidence")) if "confidence" in data else None,
    )


def _strategy(reading: Reading, path: Path, data: Any) -> str | None:
    if data in STRATEGIES:
        return str(data)
    hint = did_you_mean(str(data), STRATEGIES) or f"the strategies are: {listed(STRATEGIES)}"
    told = f"unknown strategy '{data}'" if isinstance(data, str) else f"'strategy' must be a name, not {plain_kind(data)}"
    reading.problem(path, told, hint)
    return None


def _judge(reading: Reading, path: Path, data: Any, stage: str) -> Judge | None:
    if not isinstance(data, Mapping):
        reading.problem(path, f"'judge' must be a mapping, not {plain_kind(data)}", "write judge: {rubric: what counts}")
        return None
    reading.choose(path, data, JUDGE_KEYS, "'judge'")
    model = _name(reading, (*path, "model"), data["model"]) if "model" in data else None
    if "rubric" not in data:
        reading.problem(path, "'judge' lacks 'rubric'", "write judge: {rubric: what counts}", key=True)
        return None
    rubric = reading.template((*path, "rubric"), data["rubric"], "judge", stage)
    if rubric is not None and not rubric.source.strip():
        reading.problem((*path, "rubric"), "the rubric is empty", "say what makes an answer the better one", key=True)
    return None if rubric is None else Judge(rubric=rubric, model=model)


def _confidence(reading: Reading, path: Path, data: Any) -> float | None:
    if isinstance(data, Mapping):
        reading.problem(path, "the mapping form of 'confidence' is not carried out yet", "write a number from 0 to 1")
    elif isinstance(data, bool) or not isinstance(data, int | float):
        reading.problem(path, f"'confidence' must be a number from 0 to 1, not {plain_kind(data)}")
    elif not 0 <= data <= 1:
        hint = f"write {data / 100:g}" if 1 < data <= 100 else ""
        reading.problem(path, f"'confidence' must be from 0 to 1, not {data:g}", hint)
    else:
        return float(data)
    return None


def check_judge(reading: Reading, path: Path, settings: StageSettings, *, tries: bool = False) -> None:
    """Refuse a judge that would have nothing to judge by what the file says; ``tries``: the stage has ``until``."""
    judged = tries or settings.strategy not in ("single", "hedge") or settings.confidence is not None
    if settings.judge is not None and not judged:
        message = f"'judge' has nothing to choose from with strategy {settings.strategy}"
        reading.problem((*path, "judge"), message, "it goes with strategy: best_of_two, or with 'until'", key=True)


def check_tools(reading: Reading, path: Path, own: StageSettings) -> None:
    """Refuse what a prompt with tools cannot have: two answers of which one is chosen, or an answer that is asked for again."""
    if own.strategy == "best_of_two":
        message = "'best_of_two' is for a prompt without tools"
        reading.problem((*path, "strategy"), message, "two models would call the tools, and one of them for nothing")
    if own.confidence is not None:
        message = "'confidence' is for a prompt without tools"
        reading.problem(
            (*path, "confidence"), message, "an answer that is asked for again would call the tools again", key=True
        )


def _model(reading: Reading, path: Path, data: Any, stage: str) -> str | Template | None:
    if _has_template(data) and stage:
        return reading.template(path, data, "model", stage)
    return _name(reading, path, data)


def _name(reading: Reading, path: Path, data: Any) -> str | None:
    name = reading.plain(path, data, "'model'")
    if isinstance(data, str) and not data.strip():
        reading.problem(path, "'model' is empty", "name a tier, an alias or a model")
    return name or None


def _params(reading: Reading, path: Path, data: Any, stage: str) -> Mapping[str, Value]:
    if _has_template(data):
        hint = "name them one by one here, or take the input in the stages: params: ${{ inputs.x }}"
        reading.problem(path, "'params' of the defaults cannot come from an input as a whole", hint)
        return {}
    params: dict[str, Value] = {}
    for name, value in reading.mapping(path, data, "'params'").items():
        kinds = PARAMS.get(name)
        if kinds is None:
            hint = did_you_mean(name, PARAMS) or f"what one vendor alone has stands in 'extra': {{{name}: ...}}"
            reading.problem((*path, name), f"unknown key '{name}' in 'params'", hint, key=True)
        elif (mistake := param_mistake(name, value)) and (kinds == ("object",) or not _has_template(value)):
            reading.problem((*path, name), mistake)
        else:
            params[name] = reading.value((*path, name), value, "params", stage)
    return params


def param_mistake(name: str, value: Any) -> str:
    """Return why ``value`` cannot be the parameter ``name``, nothing where it can."""
    kinds = PARAMS[name]
    if value is None:
        return ""
    if _is_one_of(value, kinds):
        least, most = _LIMITS.get(name, (-math.inf, math.inf))
        if not isinstance(value, int | float) or isinstance(value, bool) or least <= value <= most:
            return ""
        return f"'{name}' must be {least} or more" if math.isinf(most) else f"'{name}' must be from {least} to {most}"
    return f"'{name}' must be {kinds_text(kinds)}, not {plain_kind(value)}"


def kinds_text(kinds: Iterable[str]) -> str:
    """Return JSON types in plain words."""
    return " or ".join(_KINDS[kind][1] for kind in kinds)


def params_mistakes(given: Any) -> list[str]:
    """Return why ``given`` cannot be all the params of a stage; null is none."""
    if given is None:
        return []
    if not isinstance(given, Mapping):
        return [f"'params' must be a mapping of names, not {plain_kind(given)}"]
    unknown = [f"unknown key '{name}' in 'params'{_near(name)}" for name in given if name not in PARAMS]
    return unknown + [mistake for name in given if name in PARAMS and (mistake := param_mistake(name, given[name]))]


def _near(name: Any) -> str:
    hint = did_you_mean(str(name), PARAMS)
    return f"; {hint}" if hint else ""


def completed_params(own: Mapping[str, Value], defaults: Mapping[str, Value]) -> Mapping[str, Value]:
    """Return ``own`` params over ``defaults``; ``extra`` is completed key by key."""
    extra = {**(defaults.get("extra") or {}), **(own.get("extra") or {})}
    return {**defaults, **own, **({"extra": extra} if extra else {})}


def _has_template(value: Any) -> bool:
    return isinstance(value, str) and OPENING in value


def _is_one_of(value: Any, kinds: tuple[str, ...]) -> bool:
    if isinstance(value, bool):
        return "boolean" in kinds
    return any(isinstance(value, _KINDS[kind][0]) for kind in kinds)


def _duration(reading: Reading, path: Path, data: Any, stage: str) -> float | Template | None:
    key = str(path[-1])
    if _has_template(data):
        return _whole(reading, path, data, key, stage)
    return reading.duration(path, data, f"'{key}'")


def _parallel(reading: Reading, path: Path, data: Any, stage: str) -> int | Template | None:
    if _has_template(data):
        return _whole(reading, path, data, "parallel", stage)
    return reading.whole_number(path, data, "'parallel'", 1, MOST_PARALLEL)


def _max(reading: Reading, path: Path, data: Any, stage: str) -> int | Template | None:
    if _has_template(data):
        return _whole(reading, path, data, "max", stage)
    return reading.whole_number(path, data, "'max'", 1, MOST_TRIES)


def _whole(reading: Reading, path: Path, data: str, key: str, stage: str) -> Template | None:
    template = reading.template(path, data, key, stage)
    if template is not None and template.whole is None:
        reading.problem(path, f"'{key}' must be one value", f'write {key}: "${{{{ inputs.x }}}}"')
        return None
    return template


def _retry(reading: Reading, path: Path, data: Any) -> Retry | None:
    if not isinstance(data, Mapping):
        most = reading.whole_number(path, data, "'retry'", 0, MOST_RETRIES)
        return None if most is None else Retry(max=most)
    reading.choose(path, data, ("max", "backoff"), "'retry'")
    if "max" not in data:
        reading.problem(path, "'retry' lacks 'max'", "write {max: 2, backoff: 5s}")
        return None
    most = reading.whole_number((*path, "max"), data["max"], "'max'", 0, MOST_RETRIES)
    backoff = reading.duration((*path, "backoff"), data["backoff"], "'backoff'") if "backoff" in data else 1.0
    if backoff is not None and backoff > LONGEST_PAUSE:
        reading.problem((*path, "backoff"), "'backoff' must be at most 5m: no pause is longer", "write 5m")
    return None if most is None or backoff is None else Retry(max=most, backoff=backoff)
