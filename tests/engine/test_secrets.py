"""No secret leaves: not by values, events, errors, the database or what the command line prints."""

from __future__ import annotations

import base64
import json

import pytest

from flowcraft.errors import AuthenticationFailed, WorkflowError

pytestmark = pytest.mark.integration

SECRET = 'hush-"pass/word"-4711/x'


def forms():
    return [SECRET, json.dumps(SECRET)[1:-1], base64.b64encode(SECRET.encode()).decode(), SECRET.encode().hex()]


def stored(project):
    return b"".join(path.read_bytes() for path in project.path.glob("flowcraft.db*")).decode("utf-8", "replace")


@pytest.fixture
def planted(project, monkeypatch):
    monkeypatch.setenv("PLANTED", SECRET)
    return project


async def test_secret_of_the_environment_reaches_the_function_and_nothing_else(planted):
    planted.steps("""
        import base64
        def use(token):
            assert len(token) == 23
            return {"echo": f"Bearer {token}", "coded": base64.b64encode(token.encode()).decode(), token: 1}
        def fail(token):
            raise ValueError(f"refused: {token}")
    """)

    result = await planted.run("""
        env: [PLANTED]
        stages:
          use: {run: "steps:use", with: {token: "${{ env.PLANTED }}"}}
          fail: {needs: [use], run: "steps:fail", with: {token: "${{ env.PLANTED }}"}, retry: {max: 1, backoff: 1ms}}
    """)

    assert result.state == "failed"
    seen = stored(planted) + repr(result) + repr([event.data() for event in planted.events])
    assert "Bearer ***" in seen
    assert [form for form in forms() if form in seen] == []


async def test_secret_of_settings_in_a_providers_error_is_taken_out(project, monkeypatch):
    from flowcraft.testing import FakeProvider

    project.fake = FakeProvider(AuthenticationFailed(f"wrong key {SECRET}"))
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    async with project.open(llm={"default_model": "fake:one"}, providers={"fake": {}}) as flow:
        result = await project.run("stages: {ask: {prompt: Hello}}", flow)

    seen = stored(project) + repr(result) + repr([event.data() for event in project.events])
    assert "wrong key ***" in seen
    assert [form for form in forms() if form in seen] == []


async def test_renewed_secret_does_not_change_what_was_asked(planted, monkeypatch):
    failed = await planted.run(f"""
        env: [PLANTED]
        stages:
          use: {{run: "steps:note", with: {{word: "${{{{ env.PLANTED }}}}"}}}}
          flaky: {{needs: [use], run: "steps:fail_until", with: {{path: "{planted.path}/now"}}}}
    """)
    monkeypatch.setenv("PLANTED", "another-token-0815")
    planted.write("now", "")

    assert (await planted.resume(failed.run)).state == "done"


async def test_name_that_is_not_set_is_an_error_before_anything_runs(project):
    with pytest.raises(WorkflowError, match="NOT_SET_ANYWHERE"):
        await project.run("""
            env: [NOT_SET_ANYWHERE]
            stages:
              use: {run: "steps:note", with: {word: "${{ env.NOT_SET_ANYWHERE }}"}}
        """)

    assert project.marks() == []
