"""References are typed: names, fields, enumerations, 'run', secrets, arguments, and what is only doubtful."""

from __future__ import annotations

import sys

import pytest

from flowcraft.llm.casting import Casting
from flowcraft.plugin.capabilities import Capabilities, ModelInfo
from flowcraft.workflow import Facts, check_workflow, environment_names, load_workflow

pytestmark = pytest.mark.unit

STAGES = """
inputs: {text: string, names: '[string]', many: integer, maybe: string | null, whole: any, mode: fast | slow}
types: {Finding: {file: string, line: integer | null, severity: low | high}}
stages:
  files: {prompt: hello, output: {files: [string], tests: boolean, found: [Finding], free: any, size: number}}
  plain: {prompt: hello}
  listed: {each: inputs.names, prompt: "${{ item }}", output: Finding}
  skipped: {when: inputs.many > 3, prompt: hello, output: Finding | null}
"""


def mention(expression):
    return STAGES + f"  last:\n    prompt: <${{{{ {expression} }}}}>\n"


@pytest.mark.parametrize(
    "expression",
    [
        "inputs.text",
        "inputs['text']",
        "files.found[0].file",
        "files['found'][-1]['line']",
        "files.free.whatever[3].x",
        "inputs.whole.x.y",
        "listed[0].severity == 'low'",
        "listed[inputs.many].file",
        "skipped.file",
        "default(skipped, listed[0]).file",
        "(files if files.tests else null).files",
        "len(inputs.maybe) == 1",
        "'low' in ['low', files.found[0].severity]",
        "inputs.mode in ['fast', 'slow']",
        "inputs.many < files.size",
        "inputs.maybe < 'x'",
        "null < 3",
        "run.id",
        "run.stages.plain.usd > 3",
        "run.stages['plain'].state == 'done'",
        "json(inputs)",
        "json(files)",
        "any(files.found) and all(listed)",
        "[1, 2][0]",
        "len(files)",
    ],
)
def test_known_references_load(folder, expression):
    folder.load(mention(expression))


@pytest.mark.parametrize(
    ("expression", "heart", "hint"),
    [
        ("fils", "unknown name 'fils'", "did you mean 'files'?"),
        ("text", "unknown name 'text'", "write inputs.text"),
        ("zzz", "unknown name 'zzz'", "the names here are: inputs, run, files, plain, listed, skipped"),
        (
            "files.fles",
            "unknown field 'fles' of stage 'files' (it has: files, tests, found, free, size)",
            "did you mean 'files'?",
        ),
        ("files['fles']", "unknown field 'fles'", "did you mean 'files'?"),
        (
            "files.found[0].lin",
            "unknown field 'lin' of 'files.found[0]' (it has: file, line, severity)",
            "did you mean 'line'?",
        ),
        ("skipped.fil", "unknown field 'fil' of stage 'skipped'", "did you mean 'file'?"),
        ("listed.file", "stage 'listed' is a list and has no field 'file'", "[0]"),
        ("plain.title", "stage 'plain' is text and has no field 'title'", "'output' with fields"),
        ("files.tests.x", "'files.tests' is a boolean and has no field 'x'", ""),
        ("inputs.mode.x", "'inputs.mode' is text and has no field 'x'", ""),
        ("plain[0]", "stage 'plain' is text and has no elements", ""),
        ("files[0]", "stage 'files' is an object: a field is written ['name']", ""),
        ("listed['file']", "stage 'listed' is a list and has no field 'file'", "[0]"),
        ("listed[plain]", "a list is indexed by a whole number, not by text", ""),
        ("inputs.txt", "unknown input 'txt' (there are: text, names, many, maybe, whole, mode)", "did you mean 'text'?"),
        ("files.found[0].severity == 'hihg'", "'hihg' is none of the words low, high", "did you mean 'high'?"),
        ("'hihg' == files.found[0].severity", "'hihg' is none of the words", ""),
        ("inputs.mode in ['fast', 'medium']", "'medium' is none of the words", ""),
        ("inputs.text < inputs.many", "'<' cannot compare text with a number", ""),
        ("files.tests > 0", "'>' cannot compare a boolean with a number", ""),
        ("files.tests > files.tests", "'>' cannot compare a boolean with a boolean", ""),
        ("'x' in inputs.many", "'in' cannot look into a number", ""),
        ("3 in inputs.text", "'in' cannot look for a number in text", ""),
        ("len(inputs.many) > 1", "len() takes text, a list or an object, not a number", ""),
        ("any(inputs.text)", "any() takes a list, not text", ""),
        ("item", "'item' stands only in a stage with 'each'", ""),
        ("index", "'index' stands only in a stage with 'each'", ""),
        ("iteration", "'iteration' stands only in a stage with 'until'", ""),
        ("judge.score", "'judge' stands only in a stage with 'until' and 'judge'", ""),
        ("run", "'run' stands only with a field", "run.id"),
        ("run.stages", "'run.stages' stands only with a stage's name", ""),
        ("run.ID", "unknown field 'ID' of 'run' (it has: id, folder, date, stages)", "did you mean 'id'?"),
        ("run.state", "'run.state' stands only in 'finally'", ""),
        ("run.error", "'run.error' stands only in 'finally'", ""),
        ("run.stages.plan.state", "unknown stage 'plan'", "did you mean 'plain'?"),
        ("run.stages.plain.stat", "unknown field 'stat' of 'run.stages.plain'", "did you mean 'state'?"),
        (
            "run.stages.plain.state == 'succeeded'",
            "'succeeded' is none of the words done, skipped, failed",
            "",
        ),
        ("run.stages.plain.state == 'stopped'", "'stopped' is none of the words done, skipped, failed", ""),
        ("run[inputs.text]", "a field of 'run' is written out", ""),
        ("env.TOKEN", "'env' stands only in 'with' of a 'run'", ""),
    ],
)
def test_wrong_reference_is_an_error_at_load(folder, expression, heart, hint):
    problems = folder.problems(mention(expression))

    assert len(problems) == 1
    assert heart in problems[0].message
    assert hint in problems[0].hint


@pytest.mark.parametrize("state", ["done", "skipped", "failed", "stopped", "waiting", "pending"])
def test_state_in_finally_may_be_that_of_a_stage_that_is_not_settled(folder, state):
    last = f"finally: {{f: {{when: run.stages.a.state == '{state}', prompt: x}}}}\n"

    assert folder.load("stages: {a: {prompt: x}}\n" + last).finally_["f"].when is not None


def test_state_in_finally_is_an_enumeration_too(folder):
    stages = "stages: {a: {prompt: x}}\nfinally:\n  f: {prompt: x}\n"
    asked = "  g: {when: run.stages.%s.state == '%s', prompt: x}\n"

    assert "is none of the words done, skipped, failed, stopped" in folder.messages(stages + asked % ("a", "ready"))[0]
    assert "is none of the words done, skipped, failed" in folder.messages(stages + asked % ("f", "stopped"))[0]


def test_item_belongs_to_the_prompt_and_not_to_the_list(folder):
    assert folder.messages(STAGES + '  last: {each: "[item]", parallel: "${{ index }}", prompt: "${{ item }}"}\n') == [
        "'item' does not stand in 'each'",
        "'index' does not stand in 'parallel'",
    ]


def test_item_has_the_type_of_the_lists_elements(folder):
    assert folder.messages(STAGES + '  last: {each: files.found, prompt: "${{ item.fil }} ${{ index.x }}"}\n') == [
        "unknown field 'fil' of 'item' (it has: file, line, severity)",
        "'index' is a number and has no field 'x'",
    ]
    assert folder.messages(STAGES + '  last: {each: [{a: 1}, {a: 2}], prompt: "${{ item.b }}"}\n') == [
        "unknown field 'b' of 'item' (it has: a)"
    ]


def test_each_takes_a_list(folder):
    assert folder.messages(STAGES + "  last: {each: plain, prompt: hello}\n") == ["'each' takes a list, not string"]
    folder.load(STAGES + "  last: {each: files.free, prompt: hello}\n")


@pytest.mark.parametrize("key", ["model", "timeout", "parallel"])
def test_settings_mention_inputs_only(folder, key):
    (message,) = folder.messages(STAGES + f'  last: {{each: [1], prompt: hello, {key}: "${{{{ plain }}}}"}}\n')

    assert message == f"'{key}' may mention inputs only: it is settled at the start"


def test_outputs_mention_stages_and_nothing_hidden(folder):
    folder.load(STAGES + 'outputs: {x: "${{ plain }}", y: {z: ["${{ run.id }}"]}}\n')

    assert folder.messages(STAGES + 'outputs: {x: "${{ plan }}", y: "${{ item }}"}\n') == [
        "unknown name 'plan'",
        "'item' stands only in a stage with 'each'",
    ]
    assert folder.messages(STAGES + "outputs: [x]\n") == ["'outputs' must be a mapping of names, not a list"]


def test_result_of_a_workflow_is_typed(folder):
    workflow = folder.load(STAGES + 'outputs: {x: "${{ files.found }}", y: "a ${{ plain }}", z: {n: 1}}\n')

    assert workflow.result.text == "{x: [Finding], y: string, z: {n: integer}}"
    assert folder.load(STAGES).result.text.startswith("{files: {files: [string]")


SECRETS = """
env: [GH_TOKEN]
stages:
  a: {run: "json:dumps", with: {obj: "${{ env.GH_TOKEN }}"}}
"""


def test_env_stands_in_with_of_run_alone(folder):
    folder.write("part.yaml", 'flowcraft: 1\ninputs: {x: string}\nstages: {a: {prompt: "${{ inputs.x }}"}}\n')

    folder.load(SECRETS)
    for stage in (
        'b: {prompt: "${{ env.GH_TOKEN }}"}',
        "b: {prompt: hello, when: env.GH_TOKEN == 'x'}",
        "b: {prompt: hello, each: '[env.GH_TOKEN]'}",
        'b: {prompt: hello, system: "${{ env.GH_TOKEN }}"}',
        'b: {prompt: hello, model: "${{ env.GH_TOKEN }}"}',
        'b: {prompt: hello, params: {user: "${{ env.GH_TOKEN }}"}}',
        'b: {uses: part.yaml, with: {x: "${{ env.GH_TOKEN }}"}}',
    ):
        messages = folder.messages(SECRETS + f"  {stage}\n")
        assert any("'env' stands only in 'with' of a 'run'" in message for message in messages), stage
    assert "'env' stands only" in folder.messages(SECRETS + 'outputs: {x: "${{ env.GH_TOKEN }}"}\n')[0]


@pytest.mark.parametrize(
    ("expression", "heart"),
    [
        ("env.GH_TOKN", "'GH_TOKN' is not listed under 'env'"),
        ("env", "'env' stands only with a field"),
        ("env[run.id]", "a field of 'env' is written out"),
    ],
)
def test_only_listed_names_of_the_environment_are_read(folder, expression, heart):
    assert heart in folder.messages(SECRETS.replace("env.GH_TOKEN", expression))[0]


@pytest.mark.parametrize(
    ("env", "heart"),
    [
        ("[A-B]", "letters, digits and '_' only"),
        ("[3]", "letters, digits and '_' only"),
        ("[A, A]", "'A' stands twice"),
        ("TOKEN", "'env' must be a list"),
    ],
)
def test_wrong_env_is_refused(folder, env, heart):
    assert heart in folder.messages(f"env: {env}\nstages: {{a: {{prompt: hello}}}}\n")[0]


FUNCTIONS = """
from typing import Literal, Optional

raise RuntimeError("must not be imported")

def plain(text: str, count: int = 3, *, mode: Literal["a", "b"] = "a") -> list[dict]: ...

async def many(names: list[str], extra: "Optional[float]" = None, **rest) -> str | None: ...

def decorate(function): return function

@decorate
def decorated(a): ...

from json import dumps as exported

if True:
    def inner(x: bool) -> int: ...
"""


@pytest.mark.parametrize(
    ("stage", "hearts"),
    [
        ("{run: 'steps_a:plain', with: {text: x}}", []),
        ("{run: 'steps_a:plain', with: {text: x, count: 1, mode: b}}", []),
        ("{run: 'steps_a:plain'}", ["steps_a:plain also needs: text"]),
        ("{run: 'steps_a:plain', with: {text: 3}}", ["the parameter 'text' takes string, not integer"]),
        ("{run: 'steps_a:plain', with: {text: x, mode: c}}", ["the parameter 'mode': must be one of a, b, not text ('c')"]),
        ("{run: 'steps_a:plain', with: {text: x, cont: 3}}", ["steps_a:plain has no parameter 'cont'"]),
        ("{run: 'steps_a:many', with: {names: [a], other: 1, extra: 2.5}}", []),
        ("{run: 'steps_a:many', with: {names: [a, 1]}}", ["the parameter 'names': [1]: must be text, not a number (1)"]),
        ("{run: 'steps_a:many', with: {names: x}}", ["the parameter 'names' takes [string], not string"]),
        ("{run: 'steps_a:many', with: {names: null}}", ["the parameter 'names': must be a list, not null"]),
        ("{run: 'steps_a:decorated', with: {whatever: 1}}", []),
        ("{run: 'steps_a:exported', with: {whatever: 1}}", []),
        ("{run: 'steps_a:inner', with: {x: yes}}", ["the parameter 'x' takes boolean, not string"]),
        ("{run: 'steps_a:inner.method', with: {whatever: 1}}", []),
        ("{run: 'steps_a:nothing'}", ["module 'steps_a' has no 'nothing'"]),
        ("{run: 'math:sqrt', with: {whatever: 1}}", []),
        ("{run: 'json:dumps', with: {obj: 1}}", []),
        ("{run: 'broken:f'}", ["module 'broken' is not valid Python"]),
        ("{run: 'package.module:f', with: {a: 1}}", []),
        ("{run: 'package:g'}", []),
        ("{run: 'package.nothing:g'}", ["there is no module 'package.nothing'"]),
        ("{run: 'a b'}", ["'a b' names no function"]),
    ],
)
def test_arguments_are_checked_against_the_source(folder, stage, hearts):
    folder.write("steps_a.py", FUNCTIONS)
    folder.write("broken.py", "def f(:\n")
    folder.write("package/__init__.py", "def g(): ...\n")
    folder.write("package/module.py", "def f(a): ...\n")

    text = f"stages:\n  a: {stage}\n"
    messages = folder.messages(text) if hearts else (folder.load(text), [])[1]

    assert len(messages) == len(hearts)
    assert all(heart in message for heart, message in zip(hearts, messages, strict=True))
    assert not {"steps_a", "package", "package.module", "broken"} & set(sys.modules)


def test_template_in_an_argument_is_checked_by_its_type(folder):
    folder.write("steps_a.py", FUNCTIONS)

    assert folder.messages(
        """
        inputs: {n: integer, t: string | null}
        stages:
          ok: {run: "steps_a:plain", with: {text: "n is ${{ inputs.n }}", count: "${{ inputs.n }}"}}
          also: {run: "steps_a:plain", with: {text: "${{ inputs.t }}"}}
          not_ok: {run: "steps_a:plain", with: {text: "${{ inputs.n }}"}}
          nested: {run: "steps_a:many", with: {names: ["${{ inputs.t }}", "${{ inputs.n }}"]}}
        """
    ) == ["the parameter 'text' takes string, not integer"]


def test_stage_has_the_type_of_the_functions_return(folder):
    folder.write("steps_a.py", FUNCTIONS)
    workflow = folder.load(
        """
        stages:
          a: {run: "steps_a:plain", with: {text: x}}
          b: {run: "steps_a:many", with: {names: []}}
          c: {run: "steps_a:decorated", with: {a: 1}}
          d: {each: [1], run: "steps_a:inner", with: {x: true}}
          e: {run: "steps_a:plain", with: {text: x}, output: string}
        """
    )

    assert [stage.value.text for stage in workflow.stages.values()] == ["[any]", "string | null", "any", "[integer]", "string"]


@pytest.mark.parametrize(
    ("given", "hearts"),
    [
        ("{body: hello}", []),
        ("{body: hello, count: 3}", []),
        ("{}", ["part.yaml also needs: body"]),
        ("{body: hello, cuont: 3}", ["part.yaml has no input 'cuont'"]),
        ("{body: hello, count: many}", ["the input 'count' takes integer, not string"]),
        ("{body: hello, mode: medium}", ["the input 'mode': must be one of fast, slow, not text ('medium')"]),
        ("{body: hello, points: [{x: 1}, {y: 1}]}", ["the input 'points': [1].x: is missing"]),
        ('{body: hello, points: [{x: "${{ plain }}"}]}', ["the input 'points' takes [{x: integer}], not [{x: string}]"]),
        ("[x]", ["'with' must be a mapping of names, not a list"]),
    ],
)
def test_with_of_uses_is_checked_against_the_inputs(folder, given, hearts):
    folder.write(
        "part.yaml",
        """\
        flowcraft: 1
        inputs: {body: string, count: integer = 3, mode: fast | slow = fast, points: '[{x: integer}] = []'}
        stages: {a: {prompt: "${{ inputs.body }} ${{ json(inputs) }}"}}
        """,
    )

    text = f"stages:\n  plain: {{prompt: hello}}\n  a: {{uses: part.yaml, with: {given}}}\n"
    messages = folder.messages(text) if hearts else (folder.load(text), [])[1]

    assert messages == hearts


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        ("stages: {a: {when: true, prompt: hello}}", "the condition is always true"),
        ('stages: {a: {when: "1 > 2", prompt: hello}}', "the condition is always false"),
        (
            "stages: {a: {prompt: hello}, b: {when: a, prompt: hello}}",
            "the condition is text: it holds unless the text is empty",
        ),
        ("inputs: {x: string}\nstages: {a: {prompt: hello}}", "the input 'x' is never used"),
        ('stages: {a: {prompt: hello}, b: {prompt: hello}}\noutputs: {x: "${{ a }}"}', "nothing uses the answer of stage 'b'"),
        ("inputs: {n: integer}\nstages: {a: {when: inputs.n == '3', prompt: hello}}", "a number never equals text"),
    ],
)
def test_doubtful_things_are_warnings(folder, text, warning):
    workflow = folder.load(text + "\n")

    assert [problem.message for problem in workflow.warnings] == [warning]
    assert [problem.message for problem in check_workflow(workflow, Facts())] == [warning]
    assert all(problem.warning and problem.line for problem in workflow.warnings)


@pytest.mark.parametrize(
    "text",
    [
        'inputs: {x: string}\nstages: {a: {prompt: "${{ json(inputs) }}"}}',
        "inputs: {x: string}\nstages: {a: {prompt: \"${{ inputs['x'] }}\"}}",
        'stages: {a: {prompt: hello}, b: {run: "json:dumps", with: {obj: 1}}}\noutputs: {x: "${{ a }}"}',
        'stages: {a: {prompt: hello}, b: {prompt: hello, needs: [a]}}\noutputs: {x: "${{ b }}"}',
    ],
)
def test_what_is_used_is_no_warning(folder, text):
    assert folder.load(text + "\n").warnings == ()


@pytest.mark.parametrize(
    ("budget", "heart"),
    [
        ("{usd: 0}", "'usd' must be a number above 0"),
        ("{usd: true}", "'usd' must be a number above 0"),
        ("{calls: 1.5}", "'calls' must be a whole number"),
        ("{tokens: 0}", "'tokens' must be from 1"),
        ("{time: 5}", "'time' needs a unit"),
        ("{money: 5}", "unknown key 'money' in 'budget'"),
        ("[x]", "'budget' must be a mapping"),
    ],
)
def test_budget_is_checked(folder, budget, heart):
    assert heart in folder.messages(f"budget: {budget}\nstages: {{a: {{prompt: hello}}}}\n")[0]


MODELS = """
env: [TOKEN, OTHER]
defaults: {model: chep}
stages:
  a: {prompt: hello}
  b: {prompt: hello, model: gpt-5-mni}
  c: {prompt: hello, model: gpt-5-mini, system: Be short., params: {seed: 3, extra: {unknown: 1}}}
  d: {prompt: hello, model: "free:form"}
"""


def test_models_and_environment_are_checked_against_facts(folder):
    asked = []

    def cast(stage, default):
        asked.append((stage.model, stage.name, default))
        able = Capabilities(seed=False, system=False) if stage.model == "gpt-5-mini" else Capabilities()
        return Casting(answering=(ModelInfo(model="gpt-5-mini", provider="openai", capabilities=able),))

    facts = Facts(
        tiers=frozenset({"cheap", "expensive"}),
        knows_model=lambda name: None if ":" in name else name == "gpt-5-mini",
        model_names=("gpt-5-mini",),
        cast=cast,
        unset_env=frozenset({"TOKEN"}),
    )

    problems = check_workflow(folder.load(MODELS), facts)

    assert [(problem.line, problem.column, problem.message, problem.hint) for problem in problems] == [
        (3, 7, "the environment name 'TOKEN' is not set", "set it before the run starts"),
        (4, 19, "unknown model or tier 'chep'", "did you mean 'cheap'?"),
        (7, 29, "unknown model or tier 'gpt-5-mni'", "did you mean 'gpt-5-mini'?"),
        (8, 3, "openai:gpt-5-mini cannot do what stage 'c' needs: seed, system", "name another model"),
    ]
    assert ("gpt-5-mini", "c", "chep") in asked


def test_a_name_that_may_be_any_models_is_warned_of_where_a_tier_or_an_alias_is_near(folder):
    workflow = folder.load(
        """
        stages:
          a: {prompt: hello, model: expensiv}
          b: {prompt: hello, model: quik}
          c: {prompt: hello, model: some-model}
          d: {prompt: hello, model: "echo:cheap"}
          e: {prompt: hello, model: cheap}
        """
    )

    problems = check_workflow(workflow, Facts(tiers=frozenset({"cheap", "expensive"}), aliases=frozenset({"quick"})))

    assert [(problem.line, problem.column, problem.hint, problem.warning) for problem in problems] == [
        (4, 29, "did you mean 'expensive'?", True),
        (5, 29, "did you mean 'quick'?", True),
    ]
    assert "no tier, alias or listed model is called 'expensiv'" in problems[0].message


def test_a_provider_that_is_nobodys_name_but_nearly_ones_is_warned_of(folder):
    workflow = folder.load(
        """
        stages:
          a: {prompt: hello, model: "opnai:gpt-5"}
          b: {prompt: hello, model: "llama3:8b"}
          c: {prompt: hello, model: "openai:gpt-9"}
        """
    )

    (problem,) = check_workflow(workflow, Facts(model_names=("openai", "ollama")))

    assert (problem.line, problem.column, problem.warning) == (4, 29, True)
    assert problem.message == "no provider is called 'opnai': 'opnai:gpt-5' will be asked for as a model's id"
    assert problem.hint == "did you mean 'openai:gpt-5'?"


def test_what_only_this_machine_lacks_is_doubted_until_a_run_starts(folder):
    facts = Facts(tiers=frozenset({"cheap"}), knows_model=lambda name: False, unset_env=frozenset({"TOKEN"}), starting=False)

    problems = check_workflow(folder.load(MODELS), facts)

    assert [(problem.message, problem.warning) for problem in problems] == [
        ("the environment name 'TOKEN' is not set", True),
        ("unknown model or tier 'chep'", False),
        ("unknown model or tier 'gpt-5-mni'", True),
        ("unknown model or tier 'gpt-5-mini'", True),
        ("unknown model or tier 'free:form'", True),
    ]


def test_nothing_is_wrong_where_nothing_is_known(folder):
    assert check_workflow(folder.load(MODELS), Facts()) == []


def test_used_workflows_are_checked_too_each_once(folder):
    folder.write(
        "part.yaml", "flowcraft: 1\nenv: [A]\nstages: {a: {prompt: hello, model: x}, me: {uses: part.yaml, when: false}}\n"
    )
    workflow = folder.load("env: [B]\nstages: {a: {uses: part.yaml}, b: {uses: part.yaml}, c: {prompt: hello, model: y}}\n")

    problems = check_workflow(workflow, Facts(knows_model=lambda name: False, unset_env=frozenset({"A"})))

    assert [(problem.file.rsplit("/", 1)[1], problem.line, problem.warning) for problem in problems] == [
        ("flow.yaml", 3, False),
        ("part.yaml", 2, False),
        ("part.yaml", 3, False),
        ("part.yaml", 3, True),
    ]
    assert environment_names(workflow) == {"A", "B"}


def test_snapshot_of_a_run_is_read_instead_of_the_disk(folder):
    folder.write("steps_a.py", FUNCTIONS)
    folder.write("p.md", "Hello ${{ inputs.x }} ${{ file('f.txt') }}")
    folder.write("f.txt", "file")
    folder.write("part.yaml", "flowcraft: 1\nstages: {a: {prompt: {file: p2.md}}}\n")
    folder.write("p2.md", "two")
    workflow = folder.load(
        """
        inputs: {x: string}
        stages:
          a: {prompt: {file: p.md}}
          b: {uses: part.yaml}
          c: {run: "steps_a:plain", with: {text: x}, output: json:JSONDecoder}
        """
    )
    for path in folder.path.iterdir():
        path.unlink()

    again = load_workflow(folder.path / "flow.yaml", files=workflow.files)

    assert again.stages["a"].body.prompt.text({"inputs": {"x": "1"}}) == "Hello 1 file"
    assert again.stages["b"].body.workflow.stages["a"].body.prompt.source == "two"
    assert again.files == workflow.files
    assert {path.rsplit("/", 1)[1] for path in workflow.files} == {"flow.yaml", "part.yaml", "p.md", "p2.md", "f.txt"}


def test_snapshot_without_a_file_says_which(folder):
    workflow = folder.load("stages: {a: {prompt: hello}}\n")

    with pytest.raises(Exception, match="the run kept no file"):
        load_workflow(folder.path / "other.yaml", files=workflow.files)


@pytest.mark.parametrize(
    ("stages", "hint"),
    [
        ("c: {prompt: x}, a: {stages: {b: {needs: [c], prompt: x}}}", "write it into the 'needs' of the group"),
        ("a: {stages: {b: {needs: [a], prompt: x}}}", ""),
    ],
)
def test_needs_names_stages_of_the_same_group(folder, stages, hint):
    (problem,) = folder.problems(f"stages: {{{stages}}}\n")

    assert problem.message.startswith("'needs' names stages of the same group, and ")
    assert problem.hint == hint
