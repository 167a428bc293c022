"""The words of the language: every key, with the bodies that take it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from flowcraft.workflow.expressions.expression import FUNCTIONS

STAGE_NAME = r"[a-z_][a-z0-9_]*"

RESERVED = frozenset({"inputs", "env", "run", "item", "index", "iteration", "judge", "null", "true", "false", *FUNCTIONS})
"""Names that no stage and no input may have, besides Python's keywords."""

FINALLY = "finally"
"""The key of the stages that run last, and what stands before their paths."""

TOP_KEYS: Mapping[str, str] = {
    "flowcraft": "The version of the language: 1. Required.",
    "name": "The workflow's name; without it, the name of the file.",
    "description": "What the workflow is for.",
    "inputs": "What the workflow is given: a name and a type each, with '= default' and '(description)'.",
    "types": "Names for types that are used more than once.",
    "env": "The environment names that this file may read. Their values are treated as secrets.",
    "budget": "What the run may spend: usd, calls, tokens, time.",
    "defaults": "What stages take that do not say otherwise: model, strategy, params, timeout, retry, parallel.",
    "agents": "Agents by name, in CrewAI's own words, or the path of a file of them: {role, goal, backstory, tools, ...}.",
    "mcp": "MCP servers by name, whose tools prompts may name: {command, args, env}, or {url, headers}.",
    "stages": "The units of work, by name. Required.",
    "finally": "Stages that always run last: after success, failure or cancel. They see all others; what did not end is null.",
    "outputs": "What the workflow returns; without it, the stages that no other stage mentions or needs.",
}

LATER_TOP_KEYS: frozenset[str] = frozenset()
"""Words of the language that are refused until they are carried out."""

DEFAULT_KEYS = ("model", "strategy", "params", "timeout", "retry", "parallel")
JUDGE_KEYS = ("model", "rubric")
BUDGET_KEYS = ("usd", "calls", "tokens", "time")
STRATEGIES = ("single", "best_of_two", "cascade", "hedge")

BODIES: Mapping[str, str] = {
    "prompt": "One question to a model; a template, or {file: path}.",
    "crew": "Several agents: {process, tasks, manager}; it gives what its last task gives.",
    "run": "A Python function, package.module:function, sync or async; looked up beside the workflow file first.",
    "shell": "A command of bash; values reach it as environment variables that 'with' names, 'stdin' is piped.",
    "uses": "Another workflow file, as a part of this run.",
    "approve": "A question to a person, durably: the stage waits until somebody chooses; a template, or {file: path}.",
    "stages": "A group of stages in place: they see the names around them; its value is the object of theirs.",
}

LATER_STAGE_KEYS = frozenset({"history"})
LATER_BODIES: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class StageKey:
    """A key of a stage. ``bodies`` names the bodies that take it; None: all do but those in ``without``."""

    description: str
    bodies: frozenset[str] | None = None
    without: frozenset[str] = frozenset()


STAGE_KEYS: Mapping[str, StageKey] = {
    "needs": StageKey(description="Stages that must be settled first, where no data says so."),
    "when": StageKey(description="An expression; the stage runs only if it is true, else it is skipped and null."),
    "each": StageKey(description="A list or an expression that gives one: the stage runs once per element (item, index)."),
    "parallel": StageKey(description="How many elements at a time (1)."),
    "until": StageKey(description="An expression; the stage is tried again until it is true, at most 'max' times."),
    "max": StageKey(description="How often the stage is tried at most; goes with 'until'."),
    "timeout": StageKey(description="How long one element may take, all its tries included: 500ms, 30s, 5m, 24h, 7d."),
    "retry": StageKey(
        description="So many more goes of the body: a number, or {max, backoff}.", without=frozenset({"approve"})
    ),
    "cache": StageKey(
        description="Take over what the same question gave within this time, in any run: 30s, 1h, 7d.",
        bodies=frozenset({"prompt", "crew", "run", "shell"}),
    ),
    "on_error": StageKey(
        description="fail (default), or continue: the stage is null and its error is in the run's record.",
        without=frozenset({"approve"}),
    ),
    "with": StageKey(
        description="Arguments of the function, variables of the command, or inputs of the workflow.",
        bodies=frozenset({"run", "shell", "uses"}),
    ),
    "output": StageKey(
        description="The type of the result, which is checked; of an approve, the fields of a form.",
        bodies=frozenset({"prompt", "crew", "run", "shell", "approve"}),
    ),
    "choices": StageKey(
        description="What a person may choose: a list, or labels by choice; without it approve, and reject, which fails.",
        bodies=frozenset({"approve"}),
    ),
    "model": StageKey(description="Who answers: a tier, an alias or a model.", bodies=frozenset({"prompt", "crew"})),
    "agent": StageKey(description="Who does the prompt: one of the file's 'agents'.", bodies=frozenset({"prompt"})),
    "params": StageKey(
        description="Parameters of the question: temperature, max_tokens, seed, stop, ...", bodies=frozenset({"prompt"})
    ),
    "attach": StageKey(
        description="Images, sounds and files that go with the prompt: a path, an image's URL, or a list of these.",
        bodies=frozenset({"prompt"}),
    ),
    "system": StageKey(description="The system message; a template, or {file: path}.", bodies=frozenset({"prompt"})),
    "tools": StageKey(
        description="What the model may call: module:function, a plugin's tool, mcp:server or mcp:server/tool.",
        bodies=frozenset({"prompt"}),
    ),
    "strategy": StageKey(
        description="How models work together: single, best_of_two, cascade, hedge; without it, as settings say.",
        bodies=frozenset({"prompt"}),
    ),
    "judge": StageKey(
        description="Who decides which answer is the better one, and by what: {model, rubric}.", bodies=frozenset({"prompt"})
    ),
    "confidence": StageKey(
        description="0 to 1: answers below it are asked again, then given to the expensive models.",
        bodies=frozenset({"prompt"}),
    ),
}

NOT_WITH_AGENT = frozenset({"params", "strategy", "confidence", "system", "attach", "judge"})
"""What a prompt does not take that an agent does: how the agent asks is its own business."""


FOREIGN_BODIES: Mapping[str, str] = {
    **dict.fromkeys(("python", "function", "code", "call"), "a function is called by run: package.module:function"),
    **dict.fromkeys(("workflow", "include", "import", "call_workflow"), "another workflow stands in 'uses'"),
    **dict.fromkeys(("ask", "message", "messages", "user"), "a question to a model stands in 'prompt'"),
    "llm": "a question to a model stands in 'prompt', who answers it in 'model'",
    **dict.fromkeys(("steps", "tasks", "jobs", "nodes", "block"), "several stages together stand in 'stages', by name"),
    **dict.fromkeys(("command", "cmd", "bash", "sh", "script", "exec"), "a command stands in 'shell'"),
}
FOREIGN_STAGE_KEYS: Mapping[str, str] = {
    **FOREIGN_BODIES,
    **dict.fromkeys(("depends_on", "dependencies", "after", "requires"), "stages that come first stand in 'needs'"),
    **dict.fromkeys(("if", "condition", "unless"), "a condition stands in 'when'"),
    **dict.fromkeys(("foreach", "for_each", "for", "loop", "map", "matrix", "items"), "once per element: 'each'"),
    **dict.fromkeys(("concurrency", "max_parallel", "workers"), "elements at a time: 'parallel', with 'each'"),
    **dict.fromkeys(("input", "inputs", "args", "arguments", "parameters", "variables"), "arguments stand in 'with'"),
    **dict.fromkeys(("with_items", "with_list", "loop_over"), "once per element: 'each'"),
    **dict.fromkeys(("on_failure", "continue_on_error", "ignore_errors", "rescue", "catch"), "write on_error: continue"),
    **dict.fromkeys(("always", "ensure"), "what always runs last stands in 'finally', at the top of the file"),
    **dict.fromkeys(("retries", "max_retries", "attempts", "delay", "backoff"), "write retry: 2, or {max: 2, backoff: 5s}"),
    **dict.fromkeys(("timeout_minutes", "timeout_seconds", "max_execution_time"), "write timeout: 5m"),
    **dict.fromkeys(("id", "name", "title", "description"), "a stage goes by its key; what it is for stands in a comment"),
    **dict.fromkeys(("register", "save_as", "output_key", "outputs"), "what a stage gives goes by the stage's name"),
    **dict.fromkeys(("next", "goto", "then", "edges"), "the later stage mentions the earlier one, or names it in 'needs'"),
    **dict.fromkeys(
        ("routes", "route", "router", "branches", "switch"), "a branch is a 'when' of the later stage, a loop an 'until'"
    ),
    "context": "mention the earlier stage in the text: ${{ name }}",
    **dict.fromkeys(("human_input", "approval", "confirm", "interrupt"), "people are asked by a stage of its own: 'approve'"),
    "env": "variables of a command stand in 'with', names of the environment at the top: env: [NAME]",
    **dict.fromkeys(
        ("images", "image", "audio", "files", "media", "attachments"), "what goes with a prompt stands in 'attach'"
    ),
    **dict.fromkeys(("stdin", "vars", "environment"), "variables of a command, and its stdin, stand in 'with'"),
    **dict.fromkeys(("cwd", "workdir", "working_directory"), "a command begins where the run was started: write cd ... && ..."),
    **dict.fromkeys(("temperature", "max_tokens", "top_p", "seed", "stop"), "it stands in 'params'"),
    **dict.fromkeys(
        ("schema", "response_format", "output_schema", "output_json", "output_pydantic", "expected_output", "returns", "type"),
        "what comes out stands in 'output'",
    ),
}
"""Words of other tools, with '_' for '-', and how the same is said here."""

FOREIGN_STAGES = frozenset({"jobs", "steps", "tasks", "nodes"})
FOREIGN_TOP_KEYS: Mapping[str, str] = {
    **dict.fromkeys(FOREIGN_STAGES, "the units of work stand in 'stages', by name"),
    "edges": "a stage mentions those that come first, or names them in its 'needs'",
    **dict.fromkeys(DEFAULT_KEYS, "what counts for all stages stands in 'defaults'"),
    **dict.fromkeys(("system", "on_error", "cache", "tools"), "it stands in each stage that wants it"),
    "output": "it stands in each stage that wants it; what a run returns stands in 'outputs'",
    "workflow": "name, description and inputs stand at the top of the file itself",
    **dict.fromkeys(("entry_point", "start"), "a stage that mentions no other starts at once"),
    **dict.fromkeys(("vars", "variables", "parameters", "input", "args"), "what a run is given stands in 'inputs'"),
    **dict.fromkeys(("secrets", "environment"), "names of the environment are listed in 'env'"),
    **dict.fromkeys(("mcpservers", "mcp_servers", "servers"), "MCP servers stand in 'mcp', by name"),
    **dict.fromkeys(("version", "apiversion"), "the version of the language is written flowcraft: 1"),
    **dict.fromkeys(("on", "trigger", "triggers", "schedule"), "a file does not say when it is run: flowcraft run does"),
}
"""Words of other tools at the top of a file, in small letters with '_' for '-'."""


def takes(key: str, body: str, plugin_takes: Mapping[str, frozenset[str]], beside: Collection[str] = ()) -> bool:
    """Say whether ``body`` takes the stage key ``key``; ``plugin_takes`` says it for plugins' bodies.

    ``beside`` are the other keys of the stage: with ``until``, every body takes a ``judge``; with ``agent``, a prompt takes
    less.
    """
    if key == "judge" and "until" in beside:
        return True
    if body == "prompt" and "agent" in beside and key in NOT_WITH_AGENT:
        return False
    known = STAGE_KEYS[key]
    bodies = known.bodies
    if bodies is None:
        return body not in known.without
    return key in plugin_takes[body] if body in plugin_takes else body in bodies


def later(word: str) -> str:
    """Return what is said of a word that is not carried out yet."""
    return f"'{word}' is a word of the language that this version does not carry out yet"
