"""The words of agents, tasks and crews: CrewAI's own, those that are taken, and why the others are not."""

from __future__ import annotations

from collections.abc import Mapping

AGENT_KEYS: Mapping[str, str] = {
    "role": "Who the agent is. Required.",
    "goal": "What the agent is after. Required.",
    "backstory": "Where the agent comes from.",
    "tools": "What the agent may call: module:function, a plugin's tool, mcp:server or mcp:server/tool.",
    "model": "Who answers for the agent: a tier, an alias or a model; without it, the stage's own.",
    "llm": "Another word for 'model'.",
    "allow_delegation": "Whether the agent may hand work to the others of its crew, and ask them (false).",
    "max_iter": "How often the agent may ask its model for a task; without it, as often as its runner lets it.",
    "verbose": "Whether the agent tells what it does.",
    "system_template": "The form of the agent's system message, in its runner's words.",
    "prompt_template": "The form of the agent's question, in its runner's words.",
    "response_template": "The form of the agent's answer, in its runner's words.",
}
AGENT_OPTIONS = ("verbose", "system_template", "prompt_template", "response_template")
"""Words that are handed on to the runner as they stand."""

TASK_KEYS: Mapping[str, str] = {
    "name": "The task's name, where tasks are a list.",
    "description": "What is to be done. Required.",
    "expected_output": "What the result must look like.",
    "agent": "Who does it: one of the file's 'agents'; without it, whom the manager of a hierarchical crew chooses.",
    "context": "Earlier tasks whose results it is given; without it, as the agents' runner does by itself.",
    "tools": "What may be called for this task, besides the agent's own tools.",
    "markdown": "Whether the result is to be Markdown.",
}
TASK_OPTIONS = ("markdown",)

CREW_KEYS: Mapping[str, str] = {
    "process": "sequential (one task after the other, the default), or hierarchical (a manager hands them out).",
    "tasks": "The tasks in order: a list, a mapping by name, or the path of a file of them. Required.",
    "manager": "Who leads a hierarchical crew: one of the file's 'agents', a tier, an alias or a model.",
}
PROCESSES = ("sequential", "hierarchical")

_ASYNC = "what runs at the same time has no order that a replay could keep: make stages of them, which run side by side"
_PEOPLE = "people are asked by a stage of their own: approve, with the crew before it"
_FILES = "a file that is written is repeated on a replay: write it in a stage behind, with 'run' or 'shell'"
_TYPE = "the type of the result stands in the stage: output: {field: type}"
_CALLBACK = "what it does is repeated on a replay: put it into a stage behind, with 'run'"
_GUARD = "check the result in the file: output with a type, or until with a judge"
_STATE = "it holds state outside the run, which a replay cannot repeat: hand over what is needed as an input or by a stage"
_PLAN = "its plan is no part of the run: plan in a stage before, and insert what it gives"
_DATE = "write ${{ run.date }} into the prompt or the task: it stays the same on a replay"
_RATE = "limits of requests stand in settings: limits, for each model"
_TIME = "the stage has a 'timeout'"
_AGAIN = "goes of the whole stage: retry: 2; the models' own are settings: llm.retry_attempts"
_MODEL = "one model answers for an agent, its chain stands in settings: write model: ..."
_CACHE = "a tool call is never repeated in a run; take over whole results with the stage's 'cache'"
_CODE = "give the agent a tool that runs it: tools: [module:function]"
_PARAMS = "parameters of models stand in settings: params, or providers.NAME.models"
_INSIDE = "it belongs to CrewAI's inside, and the stage keeps it itself"
_MCP = "servers stand under 'mcp' at the top of the file: tools: [mcp:server]"
_MEDIA = "images go with a prompt without agent: attach"
_QUIET = "a run is watched, logged and traced by FlowCraft: flowcraft runs logs"
_CONFIG = "write its keys here, or put them all into a file: agents: agents.yaml, tasks: tasks.yaml"
_STREAM = "chains stream by themselves where they can: settings: params.stream"

_COMMON: Mapping[str, str] = {
    **dict.fromkeys(("callback", "callbacks", "step_callback", "task_callback"), _CALLBACK),
    **dict.fromkeys(("guardrail", "guardrails", "guardrail_max_retries", "max_retries"), _GUARD),
    **dict.fromkeys(("memory", "embedder", "knowledge", "knowledge_sources", "knowledge_storage", "knowledge_config"), _STATE),
    **dict.fromkeys(("agent_knowledge_context", "crew_knowledge_context", "knowledge_search_query", "skills"), _STATE),
    **dict.fromkeys(("checkpoint", "execution_context", "i18n", "security_config", "id", "from_repository", "a2a"), _STATE),
    **dict.fromkeys(("planning", "planning_config", "planning_llm", "reasoning", "max_reasoning_attempts"), _PLAN),
    **dict.fromkeys(("function_calling_llm", "chat_llm"), _MODEL),
    **dict.fromkeys(("config", "prompt_file"), _CONFIG),
    "max_rpm": _RATE,
    "cache": _CACHE,
    "tool_failure_policy": "a tool's failure is told to the model, which decides: a tool that must not fail stops it by itself",
}

REFUSED_OF_AGENTS: Mapping[str, str] = {
    **_COMMON,
    **dict.fromkeys(("inject_date", "date_format"), _DATE),
    "max_execution_time": _TIME,
    "max_retry_limit": _AGAIN,
    **dict.fromkeys(("allow_code_execution", "code_execution_mode"), _CODE),
    **dict.fromkeys(("max_tokens", "temperature", "use_system_prompt", "respect_context_window"), _PARAMS),
    "multimodal": _MEDIA,
    **dict.fromkeys(("mcps", "apps"), _MCP),
    **dict.fromkeys(("agent_executor", "executor_class", "adapted_agent", "crew", "cache_handler", "tools_handler"), _INSIDE),
    **dict.fromkeys(("tools_results", "use_better_compaction", "entity_type", "checkpoint_kickoff_event_id"), _INSIDE),
}
REFUSED_OF_TASKS: Mapping[str, str] = {
    **_COMMON,
    "async_execution": _ASYNC,
    "human_input": _PEOPLE,
    **dict.fromkeys(("output_file", "create_directory"), _FILES),
    **dict.fromkeys(("output_json", "output_pydantic", "response_model", "output", "converter_cls"), _TYPE),
    "input_files": _MEDIA,
    **dict.fromkeys(("used_tools", "tools_errors", "delegations", "prompt_context", "processed_by_agents"), _INSIDE),
    **dict.fromkeys(("retry_count", "start_time", "end_time", "allow_crewai_trigger_context"), _INSIDE),
    "condition": "a task that may be left out is a stage of its own, with 'when'",
}
REFUSED_OF_CREWS: Mapping[str, str] = {
    **_COMMON,
    **dict.fromkeys(("manager_llm", "manager_agent"), "write manager: with the name of an agent or a model"),
    "agents": "agents stand under 'agents' at the top of the file, or in a file that it names",
    "name": "the stage has a name",
    **dict.fromkeys(("verbose", "output_log_file", "tracing", "share_crew", "execution_logs", "usage_metrics"), _QUIET),
    **dict.fromkeys(("before_kickoff_callbacks", "after_kickoff_callbacks"), _CALLBACK),
    **dict.fromkeys(("task_execution_output_json_files", "trained_agents_file"), _STATE),
    "stream": _STREAM,
    "token_usage": _QUIET,
    "inputs": "write ${{ inputs.name }}, or {name}, into the texts",
    **dict.fromkeys(("llm", "model"), "write model: ... in the stage, beside 'crew'"),
    **dict.fromkeys(("output", "output_pydantic", "output_json"), _TYPE),
}
