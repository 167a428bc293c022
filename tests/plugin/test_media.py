"""Media that a request names by their paths."""

from __future__ import annotations

from pathlib import Path

import pytest

from flowcraft.plugin import ChatRequest, Image, InvalidRequest, Message, Text, with_files

pytestmark = pytest.mark.integration


def asking(path: str) -> ChatRequest:
    return ChatRequest(messages=(Message(role="user", parts=(Text(text="What is this?"), Image(path=path))),))


async def test_what_stands_at_a_path_is_read(tmp_path: Path) -> None:
    (tmp_path / "é.png").write_bytes(b"png")
    request = await with_files(asking(str(tmp_path / "é.png")))
    text, image = request.messages[0].parts
    assert isinstance(image, Image)
    assert (text, image.data) == (Text(text="What is this?"), b"png")


async def test_a_request_without_paths_is_left_as_it_is() -> None:
    request = ChatRequest(messages=(Message.user("Hello"),))
    assert await with_files(request) is request


@pytest.mark.parametrize("name", ["absent.png", "", "a\0b", "x" * 300])
async def test_what_cannot_be_read_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidRequest, match=r"cannot read .+: .+"):
        await with_files(asking(f"{tmp_path}/{name}"))
