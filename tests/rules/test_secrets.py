"""The rules of "Secrets"."""

from __future__ import annotations

import base64
from urllib.parse import quote

import pytest

from flowcraft.errors import WorkflowError

pytestmark = pytest.mark.integration

SECRET = 'p"ss wörd/42+='
FORMS = [SECRET, quote(SECRET, safe=""), base64.b64encode(SECRET.encode()).decode(), SECRET.replace('"', '\\"')]


async def test_values_are_redacted_wherever_they_are_kept_or_shown(place, monkeypatch):
    monkeypatch.setenv("SECRET_NAME", SECRET)
    place.steps("""
        import base64, json, urllib.parse
        def use(secret):
            assert secret.startswith('p"ss')
            encoded = base64.b64encode(secret.encode()).decode()
            return [secret, f"<{secret}>", urllib.parse.quote(secret, safe=""), encoded, json.dumps(secret)]
        def leak(secret):
            raise ValueError(f"wrong password {secret}")
    """)
    events = []
    async with place.open() as flow:
        flow.subscribe(lambda event: events.append(str(event.data())))
        result = await flow.run(
            place.file("""
            env: [SECRET_NAME]
            stages:
              a: {run: "steps:use", with: {secret: "${{ env.SECRET_NAME }}"}}
              b: {run: "steps:leak", with: {secret: "${{ env.SECRET_NAME }}"}, on_error: continue}
              c: {shell: 'echo "$s"; echo "$s" >&2', with: {s: "${{ env.SECRET_NAME }}"}}
              told: {run: "steps:echo", with: {b: "${{ run.stages.b.error }}", a: "${{ a }}", c: "${{ c }}"}}
        """)
        )

    assert result.state == "done"
    stored = b"".join(path.read_bytes() for path in place.path.glob("flowcraft.db*"))
    for form in FORMS:
        assert form not in str(result)
        assert form.encode() not in stored
        assert not any(form in event for event in events)


def test_env_stands_in_with_of_run_and_shell_and_in_mcp_only(place):
    place.load("""
        env: [A]
        mcp: {s: {command: x, env: {A: "${{ env.A }}"}}}
        stages:
          a: {run: "steps:note", with: {word: "${{ env.A }}"}}
          b: {shell: "true", with: {word: "${{ env.A }}"}}
          c: {prompt: hello, tools: [mcp:s]}
    """)
    assert "stands only in 'with' of a 'run' or a 'shell' and in 'mcp'" in place.refused(
        "env: [A]\nstages: {a: {prompt: '${{ env.A }}'}}\n"
    )


def test_a_name_that_is_not_listed_is_an_error(place):
    assert (
        place.refused('stages: {a: {run: "steps:note", with: {word: "${{ env.HOME }}"}}}\n')
        == "'HOME' is not listed under 'env'"
    )


async def test_each_name_must_be_set_at_the_start(place, monkeypatch):
    monkeypatch.delenv("SECRET_NAME", raising=False)
    with pytest.raises(WorkflowError, match="the environment name 'SECRET_NAME' is not set"):
        await place.run('env: [SECRET_NAME]\nstages: {a: {run: "steps:note"}}\n')

    assert place.marks() == []


async def test_a_short_value_is_not_redacted_and_that_is_a_warning(place, monkeypatch):
    monkeypatch.setenv("SECRET_NAME", "12345")
    text = 'env: [SECRET_NAME]\nstages: {a: {run: "steps:echo", with: {v: "${{ env.SECRET_NAME }}"}}}\n'
    async with place.open() as flow:
        warnings = [problem.message for problem in flow.check(place.load(text)) if problem.warning]

    assert warnings == ["the value of 'SECRET_NAME' is so short that it is not hidden in output"]
    assert (await place.run(text)).outputs == {"a": {"v": "12345"}}


async def test_a_renewed_secret_asks_for_the_same(place, monkeypatch):
    monkeypatch.setenv("SECRET_NAME", "first-value")
    failed = await place.run("""
        env: [SECRET_NAME]
        stages:
          a: {run: "steps:echo", with: {v: "${{ env.SECRET_NAME }}", deep: ["x ${{ env.SECRET_NAME }}"]}}
          b: {needs: [a], run: "steps:fail_until", with: {path: go}}
    """)
    monkeypatch.setenv("SECRET_NAME", "second-value")
    place.write("go", "")

    assert (await place.resume(failed.run)).state == "done"
