"""Stages: names, keys, order, circles, and what each body takes."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import pytest
from pydantic import Field

from flowcraft.plugin import BodyOptions, StageBody, Template
from flowcraft.settings import Params
from flowcraft.workflow import render_value
from flowcraft.workflow.loading.stage_settings import PARAMS
from flowcraft.workflow.schema import Plugin, Prompt, Retry, Run, Uses
from flowcraft.workflow.words import LATER_STAGE_KEYS

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("name", ["a", "_a", "a1", "draft_2"])
def test_stage_names_are_small_letters_digits_and_underscores(folder, name):
    assert list(folder.load(f"stages:\n  {name}: {{prompt: hello}}\n").stages) == [name]


@pytest.mark.parametrize(
    ("name", "heart", "hint"),
    [
        ("Draft", "cannot name a stage", "write draft"),
        ("my-stage", "cannot name a stage", "write my_stage"),
        ("securityReview", "cannot name a stage", "write security_review"),
        ("1st", "cannot name a stage", ""),
        ("стадия", "cannot name a stage", ""),
        ("item", "is reserved", "write item_"),
        ("iteration", "is reserved", ""),
        ("judge", "is reserved", ""),
        ("len", "is reserved", ""),
        ("file", "is reserved", ""),
        ("class", "is reserved", ""),
        ("'null'", "is reserved", ""),
    ],
)
def test_other_stage_and_input_names_are_refused(folder, name, heart, hint):
    (stage,) = folder.problems(f"stages:\n  {name}: {{prompt: hello}}\n")
    (given,) = folder.problems(f"inputs:\n  {name}: string\nstages: {{a: {{prompt: hello}}}}\n")

    assert heart in stage.message
    assert hint in stage.hint
    assert heart.replace("a stage", "an input") in given.message


def test_every_key_of_a_stage_is_read(folder):
    workflow = folder.load(
        """
        inputs: {go: boolean}
        defaults: {model: cheap, params: {seed: 1, stop: x}, timeout: 5m, retry: 1, parallel: 2, strategy: single}
        stages:
          first: {prompt: hello}
          second:
            needs: [first]
            when: inputs.go and index < 3
            each: [1, 2]
            parallel: 4
            prompt: "${{ item }}"
            system: Be short.
            model: expensive
            params: {stop: [y], temperature: 0.5}
            strategy: single
            output: {x: string}
            timeout: 90s
            retry: {max: 3, backoff: 250ms}
            on_error: continue
          third:
            run: json:dumps
            with: {obj: "${{ second }}"}
        """
    )
    first, second, third = workflow.stages.values()

    assert (second.needs, second.depends, second.parallel) == (("first",), ("first",), 4)
    assert second.when_per_element
    assert second.each == (1, 2)
    assert (second.model, dict(second.params)) == ("expensive", {"seed": 1, "stop": ["y"], "temperature": 0.5})
    assert (second.timeout, second.retry, second.on_error) == (90.0, Retry(max=3, backoff=0.25), "continue")
    assert second.output.text == "{x: string}"
    assert second.value.text == "[{x: string}]"
    assert isinstance(second.body, Prompt)
    assert second.body.system.text({}) == "Be short."
    assert (first.timeout, first.retry, first.parallel, first.model) == (300.0, Retry(max=1), 1, None)
    assert dict(first.params) == {"seed": 1, "stop": "x"}
    assert workflow.default_model == "cheap"
    assert third.body == Run(target="json:dumps", module="json", function="dumps")
    assert (third.params, third.model, third.timeout) == ({}, None, 300.0)
    assert (first.position.line, second.position.line) == (6, 7)


def test_default_timeout_and_retry_do_not_reach_uses(folder):
    folder.write("part.yaml", "flowcraft: 1\nstages: {a: {prompt: hello}}\n")
    workflow = folder.load("defaults: {timeout: 5m, retry: 2, model: x}\nstages:\n  a: {uses: part.yaml}\n")

    assert (workflow.stages["a"].timeout, workflow.stages["a"].retry) == (None, Retry())


def test_when_without_item_is_asked_once(folder):
    workflow = folder.load("stages: {a: {each: [1], when: true, prompt: hello}}\n")

    assert not workflow.stages["a"].when_per_element


@pytest.mark.parametrize(
    ("written", "value"), [("true", True), ("0", 0), ("[]", []), ("null", None), ("'1 < 2'", True), ("not true", False)]
)
def test_condition_may_be_a_boolean_a_number_or_a_list(folder, written, value):
    assert folder.load(f"stages:\n  a:\n    when: {written}\n    prompt: hello\n").stages["a"].when.evaluate({}) == value


def test_each_null_is_an_empty_list_and_leaves_may_be_templates(folder):
    workflow = folder.load(
        """
        inputs: {x: integer}
        stages:
          a: {each: null, prompt: hello}
          b: {each: [{n: "${{ inputs.x }}"}, {n: 2}], prompt: "${{ item.n }}"}
        """
    )

    assert workflow.stages["a"].each == ()
    assert render_value(list(workflow.stages["b"].each), {"inputs": {"x": 5}}) == [{"n": 5}, {"n": 2}]


def test_empty_values_are_nothing(folder):
    workflow = folder.load(
        "inputs:\ntypes:\nenv:\nbudget:\ndefaults:\noutputs:\nstages:\n  a:\n    prompt: hello\n    needs:\n    system:\n"
    )

    assert workflow.inputs == {}
    assert workflow.stages["a"].needs == ()
    assert workflow.outputs is None


@pytest.mark.parametrize("word", sorted(LATER_STAGE_KEYS))
def test_word_for_later_is_refused_by_name_with_one_problem(folder, word):
    body = {"shell": "", "approve": "", "crew": "", "stages": ""}.get(word, "prompt: hello, ")

    assert folder.messages(f"stages: {{a: {{{body}{word}: x}}}}\n") == [
        f"'{word}' is a word of the language that this version does not carry out yet"
    ]


def test_the_nearest_strategy_is_named(folder):
    (problem,) = folder.problems("stages: {a: {prompt: hello, strategy: cascad}}\n")

    assert problem.message == "unknown strategy 'cascad'"
    assert problem.hint == "did you mean 'cascade'?"


@pytest.mark.parametrize(
    ("stage", "heart", "hint"),
    [
        ("{run: 'json:dumps', with: {obj: 1}, model: x}", "'run' takes no 'model'", "these do: prompt"),
        ("{run: 'json:dumps', with: {obj: 1}, params: {}}", "'run' takes no 'params'", "prompt"),
        ("{run: 'json:dumps', with: {obj: 1}, system: x}", "'run' takes no 'system'", "prompt"),
        ("{run: 'json:dumps', with: {obj: 1}, strategy: single}", "'run' takes no 'strategy'", "prompt"),
        ("{prompt: hello, with: {}}", "'prompt' takes no 'with'", "these do: run, shell, uses"),
        ("{uses: part.yaml, output: string}", "'uses' takes no 'output'", "these do: prompt, crew, run"),
        ("{prompt: hello, tymeout: 3s}", "unknown key 'tymeout'", "did you mean 'timeout'?"),
        ("{prompt: hello, zzz: 3s}", "unknown key 'zzz'", "the keys are: prompt, crew, run, shell, uses, approve, stages"),
        ("{prompt: hello, run: 'json:dumps'}", "a second body", "of its own"),
        ("{prompt: hello, shell: ls}", "a second body: the stage has 'prompt' already", "a stage of its own"),
        ("{shell: 'ls ${{ a.b[0].some_file }}'}", "'shell' takes no template", 'write "$some_file" in the command'),
        ("{shell: 'ls ${{'}", "'shell' takes no template", "with: {value: "),
        ("{shell: {file: x.sh}}", "'shell' must be text, not a mapping", "write a command of bash"),
        ("{shell: ls, with: {1a: x}}", "'1a' cannot name a variable", "write a"),
        ("{shell: ls, with: {UID: 1}}", "'UID' is a variable of bash's own", "write uid_"),
        ("{shell: ls, cwd: x}", "unknown key 'cwd' in a stage", "write cd"),
        ("{shell: ls, stdin: x}", "unknown key 'stdin' in a stage", "stand in 'with'"),
        ("{prompt: hello, images: [a.png]}", "unknown key 'images' in a stage", "stands in 'attach'"),
        ("{bash: ls}", "unknown key 'bash' in a stage", "a command stands in 'shell'"),
        ("{timeout: 3s}", "does not say what to do", "prompt, crew, run, shell"),
        ("hello", "must be a mapping of keys, not text", "{prompt: ...}"),
        ("", "must be a mapping of keys, not nothing", "{prompt: ...}"),
        ("{prompt: hello, needs: a}", "'needs' must be a list", "write needs: [a]"),
        ("{prompt: hello, needs: [3]}", "'needs' holds names of stages", ""),
        ("{prompt: hello, needs: [b, b]}", "'b' stands twice", ""),
        ("{prompt: hello, needs: [a]}", "needs itself: a circle", ""),
        ("{prompt: hello, when: {x: y}}", "'when' must be an expression", ""),
        ("{prompt: hello, each: 3}", "'each' must be a list or an expression", ""),
        ("{prompt: hello, each: {x: y}}", "'each' must be a list or an expression", ""),
        ("{prompt: hello, parallel: 2}", "'parallel' without 'each'", ""),
        ("{prompt: hello, each: [1], parallel: 0}", "'parallel' must be from 1 to 10,000", ""),
        ("{prompt: hello, each: [1], parallel: many}", "'parallel' must be a whole number", ""),
        ("{prompt: hello, timeout: 0s}", "must be longer than nothing", ""),
        ("{prompt: hello, timeout: [1]}", "must be a duration, not a list", ""),
        ("{prompt: hello, timeout: 1.5}", "needs a unit", "write 1.5s"),
        ("{prompt: hello, retry: true}", "'retry' must be a whole number", ""),
        ("{prompt: hello, retry: {backoff: 1s}}", "'retry' lacks 'max'", ""),
        ("{prompt: hello, retry: {max: 1, back: 1s}}", "unknown key 'back' in 'retry'", "did you mean 'backoff'?"),
        ("{prompt: hello, retry: {max: 1, backoff: 1}}", "'backoff' needs a unit", ""),
        ("{prompt: hello, retry: {max: 1, backoff: 6m}}", "'backoff' must be at most 5m", "write 5m"),
        ("{prompt: hello, on_error: ignore}", "must be fail or continue", ""),
        ("{prompt: hello, model: }", "'model' must be text, not nothing", ""),
        ("{prompt: hello, model: ''}", "'model' is empty", ""),
        ("{prompt: hello, params: [x]}", "'params' must be a mapping", ""),
        ("{prompt: hello, params: {max_tokens: 1.5}}", "'max_tokens' must be a whole number", ""),
        ("{prompt: hello, params: {stop: 1}}", "'stop' must be text", ""),
    ],
)
def test_wrong_stage_is_refused(folder, stage, heart, hint):
    folder.write("part.yaml", "flowcraft: 1\nstages: {a: {prompt: hello}}\n")

    problems = folder.problems(f"stages:\n  b: {{prompt: hello}}\n  a: {stage}\n")

    assert len(problems) == 1
    assert heart in problems[0].message
    assert hint in problems[0].hint


def test_stage_depends_on_every_stage_that_it_mentions(folder):
    workflow = folder.load(
        """
        stages:
          j: {needs: [i], prompt: "${{ a }} ${{ h }}"}
          a: {prompt: hello}
          b: {prompt: hello}
          c: {prompt: hello, output: [string]}
          d: {prompt: hello}
          e: {prompt: hello}
          f: {prompt: hello, output: {deep: [any]}}
          g: {prompt: hello}
          h:
            when: b == 'x'
            each: c
            run: json:dumps
            with: {obj: {list: ["${{ f.deep[0] }}", "${{ run.stages.d.tries }} ${{ run.stages['e'].usd }}"]}}
          i: {prompt: hello}
        outputs: {x: "${{ g }}"}
        """
    )

    assert workflow.stages["h"].depends == ("b", "c", "d", "e", "f")
    assert workflow.stages["j"].depends == ("a", "h", "i")
    assert workflow.stages["h"].mentions_run
    assert not workflow.stages["j"].mentions_run
    assert workflow.results == ("j", "g")


def test_stages_in_files_are_mentioned_too(folder):
    folder.write("p.md", "${{ a }}")

    assert folder.load("stages:\n  b: {prompt: {file: p.md}}\n  a: {prompt: hello}\n").stages["b"].depends == ("a",)


def test_every_circle_is_told_with_its_path(folder):
    problems = folder.problems(
        """
        stages:
          a: {needs: [b], prompt: hello}
          b: {prompt: "${{ a }}"}
          x: {when: "run.stages.z.tries > 1", prompt: hello}
          y: {prompt: "${{ x }}"}
          z: {prompt: "${{ y }}"}
          free: {prompt: "${{ z }}"}
        """
    )

    assert [(problem.message, problem.line, problem.column) for problem in problems] == [
        ("a circle: a -> b -> a", 4, 15),
        ("a circle: x -> z -> y -> x", 6, 14),
    ]


def test_mentioning_oneself_is_a_circle_in_every_form(folder):
    for mention in ("${{ a }}", "${{ run.stages.a.tries }}"):
        assert folder.messages(f'stages: {{a: {{prompt: "{mention}"}}}}\n') == ["stage 'a' mentions itself: a circle"]


class GreetOptions(BodyOptions):
    who: Annotated[str, Template]
    often: int = Field(default=1, ge=1)
    tags: Annotated[tuple[str, ...], Template] = ()


class Greet(StageBody):
    """Greets somebody."""

    key: ClassVar[str] = "greet"
    Options: ClassVar[Any] = GreetOptions
    takes: ClassVar[frozenset[str]] = frozenset({"output", "with", "model"})


def test_plugins_body_is_read_with_its_options(folder):
    workflow = folder.load(
        """
        inputs: {name: string}
        stages:
          a: {greet: {who: "${{ inputs.name }}", often: 2, tags: [x, "${{ inputs.name }}!"]}, model: cheap, output: {x: string}}
          b: {prompt: "${{ a.x }}"}
        """,
        bodies={"greet": Greet},
    )
    stage = workflow.stages["a"]

    assert isinstance(stage.body, Plugin)
    assert render_value(stage.body.options, {"inputs": {"name": "Ada"}}) == {"who": "Ada", "often": 2, "tags": ["x", "Ada!"]}
    assert (stage.key, stage.model) == ("greet", "cheap")


@pytest.mark.parametrize(
    ("options", "heart", "line", "column"),
    [
        ("{wo: x, who: y}", "unknown option 'wo'", 4, 13),
        ("{who: x, often: many}", "'often': Input should be a valid integer", 4, 28),
        ("{who: x, often: 0}", "'often': Input should be greater than or equal to 1", 4, 28),
        ("{often: 1}", "the option 'who' is missing", 4, 5),
        ("{}", "the option 'who' is missing", 4, 5),
        ("", "the option 'who' is missing", 4, 5),
        ("hello", "'greet' must be a mapping of options, not text", 4, 12),
        ('{who: x, often: "${{ inputs.x }}"}', "'often' takes no template", 4, 28),
        ('{who: "${{ inputs.x }}", often: many}', "'often': Input should be a valid integer", 4, 44),
        ('{who: "${{ inputs.x }}", oftn: 1}', "unknown option 'oftn'", 4, 37),
        ('{tags: ["${{ inputs.x }}"]}', "the option 'who' is missing", 4, 5),
        ('{who: "${{ inputs.y }}"}', "unknown input 'y'", 4, 30),
    ],
)
def test_wrong_options_of_a_plugins_body_are_told_at_their_place(folder, options, heart, line, column):
    problems = folder.problems(f"stages:\n  a:\n    greet: {options}\ninputs: {{x: string}}\n", bodies={"greet": Greet})

    assert heart in problems[0].message
    assert (problems[0].line, problems[0].column) == (line, column)


def test_plugins_body_takes_what_it_says(folder):
    (problem,) = folder.problems("stages: {a: {greet: {who: x}, system: y}}\n", bodies={"greet": Greet})

    assert problem.message == "'greet' takes no 'system'"
    assert problem.hint == "these do: prompt"
    assert (
        "prompt, crew, greet"
        in folder.problems("stages: {a: {run: 'json:loads', with: {s: x}, model: y}}\n", bodies={"greet": Greet})[0].hint
    )


def test_built_in_bodies_cannot_be_replaced(folder):
    workflow = folder.load("stages: {a: {prompt: hello}}\n", bodies={"prompt": Greet})

    assert isinstance(workflow.stages["a"].body, Prompt)


def test_uses_is_typed_by_the_other_file(folder):
    folder.write(
        "part.yaml",
        "flowcraft: 1\nstages:\n  one: {prompt: hello}\n  two: {each: '[1]', run: \"json:loads\", with: {s: x}}\n".replace(
            "'[1]'", "[1]"
        ),
    )
    workflow = folder.load('stages:\n  a: {uses: ./part.yaml}\n  b: {prompt: "${{ a.one }}"}\n')
    body = workflow.stages["a"].body

    assert isinstance(body, Uses)
    assert body.path == "./part.yaml"
    assert body.workflow.name == "part"
    assert workflow.stages["a"].value.text == "{one: string, two: [any]}"
    assert set(workflow.files) == {str(folder.path / "flow.yaml"), str(folder.path / "part.yaml")}


def test_workflow_may_use_itself_and_others_that_use_it(folder):
    folder.write("other.yaml", "flowcraft: 1\nstages: {back: {uses: flow.yaml, when: false}}\n")
    workflow = folder.load(
        'stages:\n  me: {uses: ./flow.yaml, when: false}\n  other: {uses: other.yaml}\n  b: {prompt: "${{ me.x }}"}\n'
    )

    assert workflow.stages["me"].body.workflow is workflow
    assert workflow.stages["other"].body.workflow.stages["back"].body.workflow is workflow
    assert repr(workflow).startswith("Workflow(")


def test_uses_nests_ten_deep(folder):
    for number in range(12):
        folder.write(f"n{number}.yaml", f"flowcraft: 1\nstages: {{a: {{uses: n{number + 1}.yaml}}}}\n")
    folder.write("n12.yaml", "flowcraft: 1\nstages: {a: {prompt: hello}}\n")

    (problem,) = folder.problems("stages: {a: {uses: n1.yaml}}\n")

    assert problem.message == "'uses' nests deeper than 10"
    assert problem.file.endswith("n10.yaml")
    assert folder.load("stages: {a: {uses: n3.yaml}}\n").name == "flow"


def test_file_used_twice_is_told_once(folder):
    folder.write("part.yaml", "flowcraft: 1\nstages: {a: {promt: hello}}\n")

    problems = folder.problems('stages:\n  a: {uses: part.yaml}\n  b: {uses: ./part.yaml}\n  c: {prompt: "${{ d }}"}\n')

    assert len(problems) == 2
    assert [problem.file.rsplit("/", 1)[1] for problem in problems] == ["flow.yaml", "part.yaml"]


def test_name_defaults_to_the_files_stem_and_x_keys_are_ignored(folder):
    workflow = folder.load("x-anything: {a: [1]}\ndescription: What it is.\nstages: {a: {prompt: hello}}\n")

    assert (workflow.name, workflow.description, workflow.version) == ("flow", "What it is.", 1)
    assert folder.load("name: Мой поток\nstages: {a: {prompt: hello}}\n").name == "Мой поток"


def test_wrong_needs_are_told_at_their_places_behind_a_repeated_name(folder):
    problems = folder.problems("stages:\n  a: {prompt: x}\n  b: {prompt: x, needs: [a, a, zz, b]}\n")

    assert [(problem.column, problem.message) for problem in problems] == [
        (29, "'a' stands twice"),
        (32, "unknown stage 'zz'"),
        (36, "stage 'b' needs itself: a circle"),
    ]


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("depends_on: [a]", "stand in 'needs'"),
        ("if: a", "stands in 'when'"),
        ("foreach: a", "'each'"),
        ("inputs: {a: 1}", "stand in 'with'"),
        ("retries: 3", "write retry: 2"),
        ("routes: [{to: a}]", "a branch is a 'when'"),
        ("temperature: 0", "stands in 'params'"),
        ("response_format: x", "stands in 'output'"),
    ],
)
def test_words_of_other_tools_lead_to_ours(folder, key, hint):
    (problem,) = folder.problems(f"stages: {{a: {{prompt: x, {key}}}}}\n")

    assert hint in problem.hint


def test_params_are_completed_by_defaults_and_extra_key_by_key(folder):
    workflow = folder.load(
        """
        defaults: {params: {temperature: 1, seed: 2, extra: {keep_alive: 1h, top_k: 5}}}
        stages:
          a: {prompt: x, params: {temperature: 0, extra: {top_k: 7}}}
          b: {prompt: x}
        """
    )
    a, b = (stage.params for stage in workflow.stages.values())

    assert a == {"temperature": 0, "seed": 2, "extra": {"keep_alive": "1h", "top_k": 7}}
    assert b == {"temperature": 1, "seed": 2, "extra": {"keep_alive": "1h", "top_k": 5}}


@pytest.mark.parametrize(
    ("params", "message", "hint"),
    [
        ("{temprature: 1}", "unknown key 'temprature' in 'params'", "did you mean 'temperature'?"),
        ("{num_ctx: 1}", "unknown key 'num_ctx' in 'params'", "what one vendor alone has stands in 'extra': {num_ctx: ...}"),
        ("{stop: 3}", "'stop' must be text or a list, not a number (3)", ""),
        ("{logprobs: 1}", "'logprobs' must be true or false, not a number (1)", ""),
        ("{seed: true}", "'seed' must be a whole number, not a boolean (true)", ""),
        ("{extra: [x]}", "'extra' must be a mapping, not a list", ""),
        ("{extra: '${{ inputs.x }}'}", "'extra' must be a mapping, not text", ""),
    ],
)
def test_params_know_their_keys(folder, params, message, hint):
    for text in (
        f"stages: {{a: {{prompt: x, params: {params}}}}}\n",
        f"defaults: {{params: {params}}}\nstages: {{a: {{prompt: x}}}}\n",
    ):
        (problem,) = folder.problems(text)
        assert (problem.message, problem.hint) == (message, hint)


def test_settings_and_stages_know_the_same_params():
    assert set(PARAMS) ^ set(Params.model_fields) == {"reasoning", "user", "stream"}
