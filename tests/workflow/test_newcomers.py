"""What people write who come from other tools: the message says how the same is written here."""

from __future__ import annotations

import pytest

STAGE = "stages: {a: {prompt: x}, b: {prompt: x, %s}}\n"
WHEN = "inputs: {x: '[string]', s: string | null}\nstages: {a: {prompt: '${{ inputs.x }}'}, b: {prompt: x, when: \"%s\"}}\n"


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("continue-on-error: true", "write on_error: continue"),
        ("timeout-minutes: 5", "write timeout: 5m"),
        ("env: {X: y}", "variables of a command stand in 'with', names of the environment at the top: env: [NAME]"),
        ("name: B", "a stage goes by its key; what it is for stands in a comment"),
        ("llm: gpt-4", "a question to a model stands in 'prompt', who answers it in 'model'"),
        ("context: [a]", "mention the earlier stage in the text: ${{ name }}"),
        ("human_input: true", "people are asked by a stage of its own: 'approve'"),
        ("output_json: X", "what comes out stands in 'output'"),
        ("next: a", "the later stage mentions the earlier one, or names it in 'needs'"),
        ("with_items: [1]", "once per element: 'each'"),
        ("register: out", "what a stage gives goes by the stage's name"),
        ("delay: 5", "write retry: 2, or {max: 2, backoff: 5s}"),
        ("block: []", "several stages together stand in 'stages', by name"),
    ],
)
def test_key_of_another_tool_is_refused_with_the_word_that_is_meant(folder, key, hint):
    assert [problem.hint for problem in folder.problems(STAGE % key)] == [hint]


@pytest.mark.parametrize(
    ("top", "hint"),
    [
        ("model: cheap", "what counts for all stages stands in 'defaults'"),
        ("mcpServers: {}", "MCP servers stand in 'mcp', by name"),
        ("vars: {}", "what a run is given stands in 'inputs'"),
        ("version: 1", "the version of the language is written flowcraft: 1"),
        ("workflow: {name: x}", "name, description and inputs stand at the top of the file itself"),
        ("output: {a: x}", "it stands in each stage that wants it; what a run returns stands in 'outputs'"),
        ("entry_point: a", "a stage that mentions no other starts at once"),
        ("on: push", "a file does not say when it is run: flowcraft run does"),
    ],
)
def test_key_of_another_tool_at_the_top_too(folder, top, hint):
    assert [problem.hint for problem in folder.problems(f"{top}\n{STAGE % 'retry: 1'}")] == [hint]


@pytest.mark.parametrize("word", ["jobs", "steps", "tasks", "nodes"])
def test_stages_under_another_word_are_told_of_once(folder, word):
    problems = folder.problems(f"{word}: {{a: {{prompt: x}}}}\n")

    assert [problem.hint for problem in problems] == ["the units of work stand in 'stages', by name"]


@pytest.mark.parametrize(
    ("expression", "hint"),
    [
        ("contains(inputs.x, 'a')", "write: 'part' in text"),
        ("success()", "leave it out: after a failure nothing new begins"),
        ("always()", "what runs after a failure too stands in 'finally'"),
        ("inputs.s | default('a')", "write default(a, b)"),
        ("inputs.x | join(', ')", "compute it in a function ('run')"),
        ("inputs.s || 'a'", "write 'or'"),
        ("inputs.s is not null", "write '==', or '!=' for 'is not'"),
        ("inputs.x.length > 1", "write len(inputs.x)"),
        ("secrets.X == 'a'", "list its name under 'env', and write env.NAME in 'with'"),
        ("a.output == 'a'", "what it gives is a itself; for fields give the stage an 'output'"),
    ],
)
def test_expression_of_another_tool_is_refused_with_what_is_written_here(folder, expression, hint):
    assert [problem.hint for problem in folder.problems(WHEN % expression)] == [hint]


@pytest.mark.parametrize(
    ("written", "hint"),
    [
        ("{type: string, default: foo}", "write the type alone: string = foo"),
        ("{type: int, default: 3, description: how many}", "write the type alone: integer = 3 (how many)"),
        ("{type: string, required: true}", "write the type alone: string"),
        ("{type: string, required: false}", "write the type alone: string | null"),
        ("{type: object, properties: {x: {type: string}}}", "a JSON Schema stands under 'schema': {schema: {type: ...}}"),
    ],
)
def test_type_that_is_described_key_by_key_is_refused_with_the_line_that_is_meant(folder, written, hint):
    problems = folder.problems(f"inputs: {{x: {written}}}\nstages: {{a: {{prompt: '${{{{ json(inputs) }}}}'}}}}\n")

    assert [problem.hint for problem in problems] == [hint]
    assert problems[0].message.startswith("this reads as an object with the fields type, ")


def test_object_of_one_field_called_type_is_doubtful(folder):
    stages = "stages: {a: {prompt: '${{ json(inputs) }}'}}\n"

    assert folder.warnings("inputs: {x: {type: string}}\n" + stages) == ["this is an object with the one field 'type'"]
    assert folder.warnings("inputs: {x: {type: string, description: string}}\n" + stages) == []


def test_stage_in_a_group_is_named_with_its_group(folder):
    problems = folder.problems("stages: {g: {stages: {inner: {prompt: x}}}, b: {prompt: '${{ inner }}'}}\n")

    assert [problem.hint for problem in problems] == ["stage 'g' has it: g.inner"]


@pytest.mark.parametrize(
    ("run", "hint"), [("./steps.py", "write steps:function"), ("echo hi\\nls", "a command stands in 'shell'")]
)
def test_what_is_no_function_is_told_on_one_line(folder, run, hint):
    problem = folder.problems(f'stages: {{a: {{run: "{run}"}}}}\n')[0]

    assert hint in problem.hint
    assert "\n" not in problem.message


def test_input_in_one_brace_is_doubtful_where_nothing_else_mentions_it(folder):
    inputs = "inputs: {topic: string}\n"

    assert folder.warnings(inputs + "stages: {a: {prompt: 'On {topic}'}}\n") == ["'{topic}' is just text"]
    assert folder.warnings(inputs + "stages: {a: {prompt: 'Keep {topic} as it is: ${{ inputs.topic }}'}}\n") == []
    assert folder.warnings(inputs + "stages: {a: {prompt: 'On {{ topic }}'}}\n") == ["'{{ topic }}' is just text"]


def test_output_that_is_nothing_but_a_name_is_doubtful(folder):
    text = "inputs: {x: string}\nstages: {a: {prompt: '${{ inputs.x }}'}}\noutputs: {one: a, two: inputs.x, three: a word}\n"

    assert folder.warnings(text) == ["'a' is just text", "'inputs.x' is just text"]


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ("max_tokens: 0", "'max_tokens' must be 1 or more"),
        ("temperature: -1", "'temperature' must be 0 or more"),
        ("top_p: 1.5", "'top_p' must be from 0 to 1"),
        ("top_logprobs: 21", "'top_logprobs' must be from 0 to 20"),
    ],
)
def test_parameter_that_no_vendor_takes_is_refused_before_money(folder, params, message):
    assert folder.messages(f"stages: {{a: {{prompt: x, params: {{{params}}}}}}}\n") == [message]


CREW_AGENTS = """\
researcher:
  role: >
    {topic} Senior Data Researcher
  goal: >
    Uncover cutting-edge developments in {topic}
  backstory: >
    You're a seasoned researcher with a knack for uncovering the latest
    developments in {topic}.

reporting_analyst:
  role: >
    {topic} Reporting Analyst
  goal: >
    Create detailed reports based on {topic} data analysis and research findings
  backstory: >
    You're a meticulous analyst.
"""
CREW_TASKS = """\
research_task:
  description: >
    Conduct a thorough research about {topic}
    Make sure you find any interesting and relevant information given
    the current year is {current_year}.
  expected_output: >
    A list with 10 bullet points of the most relevant information about {topic}
  agent: researcher

reporting_task:
  description: >
    Review the context you got and expand each topic into a full section for a report.
  expected_output: >
    A fully fledged report. Formatted as markdown without '```'
  agent: reporting_analyst
"""
CREW = "agents: agents.yaml\nstages: {report: {crew: {tasks: tasks.yaml}}}\n"


def test_files_as_crewai_writes_them_are_taken_as_they_are(folder):
    folder.write("agents.yaml", CREW_AGENTS)
    folder.write("tasks.yaml", CREW_TASKS)
    workflow = folder.load("inputs: {topic: string, current_year: string}\n" + CREW)
    scope = {"inputs": {"topic": "bees", "current_year": "1999"}}
    crew = workflow.stages["report"].body

    assert workflow.warnings == ()
    assert crew.agents["researcher"].role.text(scope) == "bees Senior Data Researcher\n"
    assert crew.tasks[0].description.text(scope).endswith("information given the current year is 1999.\n")
    assert [task.agent for task in crew.tasks] == ["researcher", "reporting_analyst"]


def test_places_that_no_input_fills_are_told_of_once_where_they_stand(folder):
    folder.write("agents.yaml", CREW_AGENTS)
    folder.write("tasks.yaml", CREW_TASKS.replace("{topic}", "{topic} {Topic} {{topic}} ${topic} \\\\frac{a}{b} f{x}"))
    warnings = folder.load("inputs: {topics: string}\n" + CREW).warnings
    told = [(one.file.rpartition("/")[2], one.line, one.column, one.message, one.hint) for one in warnings[1:]]

    assert warnings[0].message == "the input 'topics' is never used"
    assert told == [
        ("agents.yaml", 3, 5, "'{topic}' stays as it is: there is no input 'topic'", "did you mean 'topics'?"),
        ("tasks.yaml", 3, 47, "'{Topic}' stays as it is: there is no input 'Topic'", "did you mean 'topics'?"),
        (
            "tasks.yaml",
            5,
            25,
            "'{current_year}' stays as it is: there is no input 'current_year'",
            "write inputs: {current_year: string}",
        ),
    ]
