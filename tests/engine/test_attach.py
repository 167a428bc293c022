"""``attach``: what the page of the language says of it, each rule by its name."""

from __future__ import annotations

import hashlib
import os

import pytest

from flowcraft.errors import WorkflowError
from flowcraft.plugin.capabilities import Capabilities
from flowcraft.plugin.messages import Audio, File, Image, Text
from flowcraft.testing import FakeProvider

pytestmark = pytest.mark.integration

PICTURE = b"\x89PNG\r\n\x1a\n picture"


def media(project, call=0):
    """What went along with a call, without its text."""
    return [part for part in project.fake.requests[call].messages[-1].parts if not isinstance(part, Text)]


@pytest.fixture
def pictures(project):
    for name in ("one.png", "two.PNG", "below/three.webp"):
        path = project.path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(PICTURE + name.encode())
    return project


async def test_files_go_before_the_prompt_with_their_types_and_contents(pictures):
    for name in ("talk.wav", "paper.pdf", "notes.ts"):
        (pictures.path / name).write_bytes(name.encode())

    result = await pictures.ask(
        "stages: {a: {prompt: Look, attach: [one.png, below/three.webp, talk.wav, paper.pdf, notes.ts]}}", "seen"
    )

    assert result.outputs == {"a": "seen"}
    message = pictures.fake.requests[0].messages[-1]
    assert [type(part) for part in message.parts] == [Image, Image, Audio, File, File, Text]
    assert message.text == "Look"
    first = message.parts[0]
    assert (first.media_type, first.data) == ("image/png", PICTURE + b"one.png")
    assert first.sha256 == hashlib.sha256(first.data).hexdigest()
    assert [part.media_type for part in message.parts[1:5]] == ["image/webp", "audio/wav", "application/pdf", "text/plain"]
    assert message.parts[3].name == "paper.pdf"


async def test_one_path_needs_no_list(pictures):
    await pictures.ask("stages: {a: {prompt: Look, attach: one.png}}", "seen")

    assert [part.media_type for part in media(pictures)] == ["image/png"]


async def test_a_path_that_is_written_out_is_relative_to_the_file_and_one_that_arrives_to_the_runs_folder(
    pictures, monkeypatch, tmp_path_factory
):
    started = tmp_path_factory.mktemp("started")
    (started / "one.png").write_bytes(b"of the run")
    monkeypatch.chdir(started)

    await pictures.ask(
        "inputs: {picture: string}\nstages: {a: {prompt: Look, attach: [one.png, '${{ inputs.picture }}']}}",
        "seen",
        picture="one.png",
    )

    assert [part.data for part in media(pictures)] == [PICTURE + b"one.png", b"of the run"]


async def test_a_list_is_spread_and_null_is_nothing(pictures):
    result = await pictures.ask(
        """
        inputs: {many: "[string]", none: string | null}
        stages: {a: {prompt: Look, attach: ["${{ inputs.none }}", "${{ inputs.many }}", "below/${{ 'three' }}.webp"]}}
        """,
        "seen",
        many=["one.png", "two.PNG"],
    )

    assert result.state == "done", result.error
    assert [part.data[-7:] for part in media(pictures)] == [b"one.png", b"two.PNG", b"ee.webp"]


async def test_each_element_attaches_its_own(pictures):
    await pictures.ask(
        "inputs: {many: '[string]'}\nstages: {a: {each: inputs.many, prompt: Look, attach: '${{ item }}'}}",
        "seen",
        many=["one.png", str(pictures.path / "two.PNG")],
    )

    assert [media(pictures, call)[0].data[-7:] for call in (0, 1)] == [b"one.png", b"two.PNG"]


async def test_an_image_may_be_a_url_which_is_passed_on(project):
    url = "https://example.com/picture?size=large"

    await project.ask(f"stages: {{a: {{prompt: Look, attach: '{url}'}}}}", "seen")

    assert media(project) == [Image(url=url)]


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("gone.png", "there is no file 'gone.png'"),
        ("film.mp4", "is a video, which cannot be attached yet"),
        ("below", "is no plain file"),
        ("pipe", "is no plain file"),
        ("empty.png", "'empty.png' is empty"),
        ("large.png", "has 20.0 MB, over the limit of 20 MB"),
        (" ", "an empty path"),
        ("http://127.0.0.1/a.png", "'127.0.0.1' is a private address"),
        ("http://[::1]/a.png", "'::1' is a private address"),
        ("http://2130706433/a.png", "is a private address"),
        ("http://169.254.169.254/latest", "is a private address"),
        ("https://printer/a.png", "is a private address"),
        ("https://db.internal/a.png", "is a private address"),
        ("file:///etc/passwd", "is no URL of the web"),
        ("data:image/png;base64,AAAA", "is no URL of the web"),
        ("https://example.com/a.mp3", "only images are attached by URL"),
        ("https://example.com/a.pdf", "only images are attached by URL"),
        ("a\0b.png", "cannot be read"),
    ],
)
async def test_what_cannot_be_attached_fails_the_stage_in_plain_words(pictures, value, told):
    (pictures.path / "empty.png").touch()
    (pictures.path / "large.png").write_bytes(bytes(20_000_001))

    os.mkfifo(pictures.path / "pipe")

    result = await pictures.ask(
        """
        inputs: {picture: string}
        stages: {which: {run: "steps:note", with: {word: "${{ inputs.picture }}"}}, a: {prompt: Look, attach: "${{ which }}"}}
        """,
        "seen",
        picture=value,
    )

    assert result.state == "failed"
    assert told in result.error
    assert pictures.fake.count() == 0


async def test_attachments_are_bounded_together(pictures):
    for number in range(3):
        (pictures.path / f"large{number}.png").write_bytes(bytes(17_000_000))

    result = await pictures.ask(
        "inputs: {many: '[string]'}\nstages: {a: {prompt: Look, attach: '${{ inputs.many }}'}}",
        "seen",
        many=[f"large{number}.png" for number in range(3)],
    )

    assert "over the limit of 50 MB together" in result.error


async def test_a_path_that_a_stage_gives_does_not_lead_out_of_the_runs_folder(pictures, tmp_path_factory):
    outside = tmp_path_factory.mktemp("outside") / "key.pem"
    outside.write_text("private")
    os.symlink(outside, pictures.path / "link.pem")
    flow = """
        inputs: {path: string}
        stages:
          say: {run: "steps:note", with: {word: "${{ inputs.path }}"}}
          a: {prompt: Look, attach: "${{ say }}"}
    """

    for path in (str(outside), "link.pem", f"../{outside.parent.name}/{outside.name}"):
        result = await pictures.ask(flow, "seen", path=path)
        assert "leads out of the run's folder" in result.error
        assert pictures.fake.count() == 0
    assert (await pictures.ask(flow, "seen", path="one.png")).state == "done"


async def test_a_finished_stage_stays_finished_though_its_attachment_changed_and_that_is_said(pictures):
    flow = """
        stages:
          a: {prompt: Look, attach: one.png}
          b: {needs: [a], run: "steps:fail_until", with: {path: ready}}
    """
    failed = await pictures.ask(flow, "seen")
    assert failed.state == "failed"
    (pictures.path / "ready").touch()
    (pictures.path / "one.png").write_bytes(b"another")
    pictures.fake = FakeProvider("seen anew")

    async with pictures.open(llm={"default_model": "fake:one"}, providers={"fake": {}}) as again:
        result = await again.resume(failed.run)

    assert result.outputs == {"b": "at last"}
    assert pictures.fake.count() == 0
    assert "what is attached to a changed since it ran; what it finished stays finished" in [
        getattr(event, "message", "") for event in pictures.events
    ]


async def test_contents_are_part_of_the_pieces_hash(pictures):
    import sqlite3

    codes = []
    for contents in (b"first", b"second", b"first"):
        (pictures.path / "one.png").write_bytes(contents)
        result = await pictures.ask("stages: {a: {prompt: Look, attach: one.png}}", "seen")
        with sqlite3.connect(pictures.path / "flowcraft.db") as database:
            codes += database.execute("select what, code from pieces where run = ? and path = 'a'", (result.run,)).fetchall()

    assert codes[0] == codes[2]
    assert codes[0][0] == codes[1][0]
    assert codes[0][1] != codes[1][1]


async def test_models_that_lack_what_is_attached_are_an_error_at_its_position_before_the_run(pictures):
    class Blind(FakeProvider):
        capabilities = Capabilities(images=False, audio_in=True, files=None)

    (pictures.path / "talk.wav").write_bytes(b"talk")
    (pictures.path / "paper.pdf").write_bytes(b"paper")
    path = pictures.write(
        "flow.yaml", "flowcraft: 1\nstages:\n  a:\n    prompt: Look\n    attach: [talk.wav, one.png, paper.pdf]\n"
    )
    async with pictures.open(llm={"default_model": "fake:one"}) as flow:
        flow.register_provider("fake", Blind)

        with pytest.raises(WorkflowError, match=r"flow.yaml:5:24: .*takes no images: 'one.png' cannot be attached") as raised:
            await flow.run(path)

    assert len(raised.value.problems) == 1
