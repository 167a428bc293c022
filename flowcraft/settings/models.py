"""The sections of the settings page, as frozen pydantic models."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from flowcraft.redaction import MASK
from flowcraft.settings.origins import hides_secret
from flowcraft.source import parse_duration

TIERS = ("default", "cheap", "expensive")
ROLES = ("primary", "duplicate", "reserve", "fallback")


def _seconds(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("must be a duration, not true or false")
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return parse_duration(value)
    return value


def _names(value: Any) -> Any:
    """One name is a list of one; nothing is an empty list; text from the environment may hold commas."""
    if value is None:
        return ()
    if isinstance(value, str):
        return tuple(word.strip() for word in value.split(",") if word.strip())
    return value


def _empty_mapping(value: Any) -> Any:
    return {} if value is None else value


def _roles(value: Any) -> Any:
    """A list or one model is a chain without roles of its own: all of it is primary."""
    return {"primary": value} if isinstance(value, str | list | tuple) else value


def _tier_name(name: str) -> str:
    if name in TIERS:
        raise ValueError(f"tier {name!r} is made of other keys of llm (model_roles, cheap_model, expensive_model)")
    return name


def _facts(value: Any) -> Any:
    """``models:`` may be a mapping, a list of ids, or nothing."""
    if value is None:
        return {}
    if isinstance(value, str):
        value = _names(value)
    if isinstance(value, list | tuple):
        return {name: {} for name in value if isinstance(name, str)} if all(isinstance(name, str) for name in value) else value
    return value


Seconds = Annotated[float, BeforeValidator(_seconds), Field(ge=0, allow_inf_nan=False)]
Names = Annotated[tuple[str, ...], BeforeValidator(_names)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]
Money = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Masked(BaseModel):
    """A model whose text form shows no secrets."""

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        for name, value in super().__repr_args__():
            yield name, _masked(name or "", value)


def _masked(name: str, value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _masked(str(key), item) for key, item in value.items()}
    return MASK if value and isinstance(value, str) and hides_secret(name, value) else value


class Section(Masked):
    """A part of the page: frozen, and without keys that nobody knows. Written without a value, it is all defaults."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _nothing_is_empty(cls, value: Any) -> Any:
        return {} if value is None else value


class Roles(Section):
    """Models by role. Every model of a role comes before the next role."""

    primary: Names = Field((), description="the models for everyday work")
    duplicate: Names = Field((), description="second contestants and judges")
    reserve: Names = Field((), description="when neither of these answers")
    fallback: Names = Field((), description="the last resort")

    def listed(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """Return the roles that name models, in their order."""
        return tuple((role, getattr(self, role)) for role in ROLES if getattr(self, role))


class Judge(Section):
    """Who decides between two answers."""

    model: str | None = Field(None, description="a model, a tier or a plugin's judge; null: a further model of the chain")
    criteria: str | None = Field(None, description="what makes an answer the better one")


class Tier(Roles):
    """A named chain: models by role, and how they work together where that differs from the rest of `llm`."""

    strategy: Literal["single", "best_of_two", "cascade", "hedge"] | None = Field(None, description="how models work together")
    order: Literal["listed", "fastest", "cheapest", "best"] | None = Field(None, description="order within a role")
    judge: Judge | None = Field(None, description="who decides between two answers")
    confidence: Share | None = Field(None, description="least confidence of an answer; below it others are asked")
    continuation: Literal["restart", "continue", "keep", "unstreamed", "fail"] | None = Field(
        None, description="what becomes of a stream that was cut in the middle"
    )


class Params(Section):
    """Defaults of every request."""

    temperature: float | None = Field(None, ge=0, description="randomness")
    top_p: float | None = Field(None, ge=0, le=1, description="share of the likeliest tokens to choose from")
    max_tokens: Positive | None = Field(None, description="longest answer, in tokens")
    stop: Names = Field((), description="texts that end an answer")
    seed: int | None = Field(None, description="for answers that can be repeated")
    presence_penalty: float | None = Field(None, description="against what was mentioned")
    frequency_penalty: float | None = Field(None, description="against what was mentioned often")
    logprobs: bool | None = Field(None, description="ask for log probabilities")
    top_logprobs: int | None = Field(None, ge=0, le=20, description="alternatives for each token")
    min_p: Share | None = Field(None, description="least share of the likeliest token's probability; where a server has it")
    grammar: str | None = Field(None, description="a GBNF grammar of the answer, where a server has it")
    stream: bool | None = Field(None, description="let answers come as streams")
    extra: Annotated[dict[str, Any], BeforeValidator(_empty_mapping)] = Field(
        default_factory=dict, description="what one vendor alone has; passed through"
    )

    def request(self) -> dict[str, Any]:
        """Return what is set, as fields of a request; what no field is for goes into ``extra``."""
        given = self.model_dump(exclude_none=True, exclude={"stream"})
        extra = {name: given.pop(name) for name in ("min_p", "grammar") if name in given}
        given["extra"] = {**extra, **given["extra"]}
        return {name: value for name, value in given.items() if value not in ((), {})}


class Adaptive(Section):
    """When best of two stops asking one of its models."""

    level: Share = Field(0.05, description="significance level of the test; 0: both are always asked")
    explore: Share = Field(0.1, description="share of answers for which it is asked still")


class Cascade(Section):
    """When the cheap answer is good enough."""

    threshold: Share = Field(0.8, description="least confidence of an answer that stands")


class Hedge(Section):
    """How often a second model may start before the first has failed."""

    max_share: Share = Field(0.05, description="most calls that may be doubled")


class Breaker(Section):
    """When a failing model is left alone for a while."""

    calls: Positive = Field(5, description="least calls in the window")
    share: Share = Field(0.5, description="share of health failures that opens it")
    window: Seconds = Field(60.0, description="seconds that count")
    open: Seconds = Field(30.0, description="seconds until one call probes the model again")


class Limit(Section):
    """How much one model may be asked."""

    requests_per_minute: Positive | None = Field(None, description="requests per minute")
    tokens_per_minute: Positive | None = Field(None, description="tokens per minute")
    concurrent: Positive | None = Field(None, description="requests at a time")


class Budget(Section):
    """How much may be spent. Days are UTC."""

    usd_per_day: Money | None = Field(None, description="USD a day")
    usd_per_run: Money | None = Field(None, description="USD a run")
    tokens_per_day: Positive | None = Field(None, description="tokens a day")
    tokens_per_run: Positive | None = Field(None, description="tokens a run")
    calls_per_day: Positive | None = Field(None, description="calls a day")
    calls_per_run: Positive | None = Field(None, description="calls a run")
    usd_per_key: Money | None = Field(None, description="USD that one key may spend in a day")
    tokens_per_key: Positive | None = Field(None, description="tokens that one key may spend in a day")
    calls_per_key: Positive | None = Field(None, description="calls that one key may make in a day")


class Structured(Section):
    """How answers are made to fit a schema."""

    mode: Literal["auto", "native", "tool", "grammar", "text"] = Field("auto", description="auto: the best it can")
    repair: bool = Field(True, description="mend what does not fit, by one further call")
    repair_model: str | None = Field(None, description="tier or model that mends; null: the same model")


class Confidence(Section):
    """How sure a model was of its answer."""

    logprobs: bool = Field(False, description="ask for log probabilities by default")
    top_logprobs: int = Field(5, ge=0, le=20, description="alternatives for each token")
    labels: dict[str, Share] = Field(default_factory=dict, description="label: least confidence")


class Repair(Section):
    """Live repair of weak tokens in a stream."""

    mode: Literal["off", "shadow", "server"] = Field("off", description="shadow: on this side; server: by min_p")
    token_threshold: Share = Field(0.4, description="least probability of a token")
    attempts_per_token: Positive = Field(8, description="tries for one token")
    max_repairs: Count = Field(8, description="repairs in one answer")
    server_min_p: Share | None = Field(None, description="min_p of server mode; null: the threshold (0.05-0.1 is usual)")


class Agents(Section):
    """Who carries out the agents and crews of workflows."""

    runner: str = Field("crewai", description="an agent runner of a plugin; crewai needs pip install 'flowcraft[crewai]'")


class Embeddings(Section):
    """How texts become vectors."""

    model: str | None = Field(None, description="the default model")
    batch: Positive = Field(64, description="texts in one request")
    cache: Seconds | None = Field(3600.0, description="how long the same text is given the same vector; null or 0: never")


class LLMSettings(Section):
    """Which models answer, in what order, for how long."""

    default_provider: str | None = Field(None, description="the provider of ids that nobody lists")
    default_model: str | None = Field(None, description="the whole chain where there are no roles")
    timeout: Seconds = Field(200.0, gt=0, description="seconds for one attempt at one model; then the next model")
    deadline: Seconds | None = Field(None, gt=0, description="seconds for one answer, all attempts; null: twice the timeout")
    retry_attempts: Count = Field(1, description="further tries on the same model, after failures of its health only")
    strategy: Literal["single", "best_of_two", "cascade", "hedge"] = Field("single", description="how models work together")
    order: Literal["listed", "fastest", "cheapest", "best"] = Field("listed", description="order within a role")
    offline: Literal["auto", "never", "allow"] = Field(
        "auto", description="auto: `offline` stands in only while no provider at all is configured or declared"
    )
    model_roles: Annotated[Roles, BeforeValidator(_roles)] = Field(default_factory=Roles, description="models by role")
    cheap_model: str | None = Field(None, description="tier `cheap`: this model, then the roles; the default tier where set")
    expensive_model: str | None = Field(None, description="tier `expensive`: this model, the roles, then the default tier")
    expensive_stages: Names = Field((), description="stages that tier `expensive` answers")
    aliases: Annotated[dict[str, str], BeforeValidator(_empty_mapping)] = Field(
        default_factory=dict, description="other names of models"
    )
    params: Params = Field(default_factory=Params, description="defaults of every request")
    warn_streams: bool = Field(True, description="warn where a stream was cut and the text so far is kept")
    tiers: Annotated[
        dict[Annotated[str, AfterValidator(_tier_name)], Annotated[Tier, BeforeValidator(_roles)]],
        BeforeValidator(_empty_mapping),
    ] = Field(
        default_factory=dict,
        description="further chains by name: roles, a list of models or one model; if need be with their own strategy",
    )
    judge: Judge = Field(default_factory=Judge, description="who decides between two answers")
    adaptive: Adaptive = Field(default_factory=Adaptive, description="when best of two stops asking one of its models")
    cascade: Cascade = Field(default_factory=Cascade, description="when the cheap answer is good enough")
    hedge: Hedge = Field(default_factory=Hedge, description="how often a second model may start early")
    continuation: Literal["restart", "continue", "keep", "unstreamed", "fail"] = Field(
        "restart", description="what becomes of a stream that was cut in the middle"
    )
    breaker: Breaker = Field(default_factory=Breaker, description="when a failing model is left alone")
    cache: Seconds | None = Field(None, description="how long equal requests get the same answer")
    limits: Annotated[dict[str, Limit], BeforeValidator(_empty_mapping)] = Field(
        default_factory=dict, description="how much a model may be asked"
    )
    budget: Budget = Field(default_factory=Budget, description="how much may be spent")
    structured: Structured = Field(default_factory=Structured, description="how answers are made to fit a schema")
    confidence: Confidence = Field(default_factory=Confidence, description="how sure a model was")
    repair: Repair = Field(default_factory=Repair, description="live repair of weak tokens")
    embeddings: Embeddings = Field(default_factory=Embeddings, description="how texts become vectors")

    @property
    def answer_deadline(self) -> float:
        """Seconds for one answer with all its attempts."""
        return self.deadline if self.deadline is not None else 2 * self.timeout

    def model_names(self) -> frozenset[str]:
        """Return every model that this section names."""
        single = (self.default_model, self.cheap_model, self.expensive_model)
        chains = (self.model_roles, *self.tiers.values())
        roles = [name for chain in chains for _, names in chain.listed() for name in names]
        return frozenset([name for name in single if name] + roles + list(self.aliases.values()))


class PriceFacts(Section):
    """USD per million tokens."""

    input: Money = Field(description="USD per million tokens of input")
    output: Money = Field(description="USD per million tokens of output")
    cached: Money | None = Field(None, description="the same of input from the vendor's cache; null: as input")
    cache_write: Money | None = Field(None, description="the same of input written to it; null: as input")


class ModelFacts(Section):
    """What is known of one model; it comes before what plugins and probes say."""

    context: Positive | None = Field(None, description="context window, in tokens")
    max_output: Positive | None = Field(None, description="longest answer, in tokens")
    top_logprobs_max: Count | None = Field(None, description="most alternatives for each token")
    price: PriceFacts | None = Field(None, description="USD per million tokens")
    family: str | None = Field(None, description="whose model it is at heart; judges need it")
    capabilities: dict[str, bool | None] = Field(default_factory=dict, description="what it can (true), cannot (false)")


class ProviderTimeouts(Section):
    """Limits of one provider's connections."""

    connect: Seconds = Field(10.0, description="seconds to connect")
    first_token: Seconds = Field(30.0, description="seconds to the first token of a stream")
    idle: Seconds = Field(60.0, description="seconds between two events of a stream")
    write: Seconds = Field(30.0, description="seconds to write the request")


class ProviderSettings(Masked):
    """One section of ``providers``. Keys that are not listed here are the plugin's own; it checks them when it is asked."""

    model_config = ConfigDict(extra="allow", frozen=True)

    type: str | None = Field(None, description="which plugin's provider, or preset; null: the section's name")
    timeouts: ProviderTimeouts = Field(default_factory=ProviderTimeouts, description="limits of its connections")
    models: Annotated[dict[str, ModelFacts], BeforeValidator(_facts)] = Field(
        default_factory=dict, description="its models: a mapping with what is known of them, a list, or nothing"
    )

    @model_validator(mode="before")
    @classmethod
    def _nothing_is_empty(cls, value: Any) -> Any:
        return {} if value is None else value

    @property
    def config(self) -> dict[str, Any]:
        """The plugin's own keys, such as ``base_url`` and ``api_key``."""
        return dict(self.__pydantic_extra__ or {})


class PluginSettings(Section):
    """Which plugins may be imported."""

    allow: Annotated[tuple[str, ...] | None, BeforeValidator(lambda value: None if value is None else _names(value))] = Field(
        None, description="names of plugins or distributions; null: all"
    )
    deny: Names = Field((), description="names of plugins or distributions")


class Log(Section):
    """What is written to the log."""

    level: Literal["debug", "info", "warning", "error"] = Field("info", description="least level")
    format: Literal["auto", "text", "json"] = Field("auto", description="auto: readable on a terminal, JSON elsewhere")
    file: str | None = Field(None, description="a file besides")
    rotate_mb: Positive = Field(50, description="size at which a new file begins, in MB")
    keep_days: Positive = Field(7, description="days that old files are kept")


class Memory(Section):
    """How much of this machine local models may take."""

    gpu_index: Count = Field(0, description="which GPU")
    max_vram_percent: float = Field(95.0, gt=0, le=100, description="most of the GPU's memory")
    vram_reserve_mb: Count = Field(1024, description="MB of it that stay free")
    max_ram_percent: float = Field(90.0, gt=0, le=100, description="most of the machine's memory")


class ServiceLimits(Section):
    """What one request may ask of the service."""

    max_tokens_per_request: Positive = Field(2048, description="tokens a request")
    max_concurrent_requests: Positive = Field(5, description="requests at a time")


class Webhooks(Section):
    """How finished tasks are told to others."""

    secret: str | None = Field(None, description="what webhooks are signed with")


class Service(Section):
    """The HTTP service."""

    title: str = Field("FlowCraft", description="title of the API")
    environment: str = Field("development", description="name of the environment in traces")
    host: str = Field("127.0.0.1", description="address to listen at")
    port: int = Field(8000, ge=0, le=65535, description="port to listen at")
    workers: Positive = Field(1, description="processes")
    preload: Names = Field((), description="models to load at start")
    limits: ServiceLimits = Field(default_factory=ServiceLimits, description="what one request may ask")
    webhooks: Webhooks = Field(default_factory=Webhooks, description="how finished tasks are told to others")


class Langfuse(Section):
    """Where traces go, over OTLP."""

    public_key: str | None = Field(None, description="the public key")
    secret_key: str | None = Field(None, description="the secret key")
    host: str = Field("https://cloud.langfuse.com", description="the server")


class Tracing(Section):
    """Where traces go."""

    otlp: str | None = Field(None, description="an OTLP endpoint")
    langfuse: Langfuse | None = Field(None, description="a Langfuse project")
