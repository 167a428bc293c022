"""Signatures read from source: the plain annotations, and nothing imported on the way."""

from __future__ import annotations

import sys

import pytest

from flowcraft.workflow import describe_function

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("annotation", "text"),
    [
        ("str", "string"),
        ("int", "integer"),
        ("float", "number"),
        ("bool", "boolean"),
        ("None", "null"),
        ("Any", "any"),
        ("list", "[any]"),
        ("list[str]", "[string]"),
        ("typing.List[int]", "[integer]"),
        ("list[dict[str, int]]", "[any]"),
        ("dict", "any"),
        ("Optional[str]", "string | null"),
        ("str | None", "string | null"),
        ("None | str", "string | null"),
        ("Union[str, None]", "string | null"),
        ("Union[str, int]", "any"),
        ("str | int", "any"),
        ("Any | None", "any"),
        ("None | None", "null"),
        ("Literal['a', 'b']", "a | b"),
        ("Literal['a', 'b', None]", "a | b | null"),
        ("Literal[1, 2]", "any"),
        ("Annotated[str, 'x']", "string"),
        ("'str'", "string"),
        ("'list[\"int\"]'", "[integer]"),
        ("'not ( python'", "any"),
        ("Path", "any"),
        ("3", "any"),
    ],
)
def test_plain_annotations_are_read_others_are_any(tmp_path, annotation, text):
    (tmp_path / "m.py").write_text(f"def f(a: {annotation}) -> {annotation}: ...\n", encoding="utf-8")

    signature = describe_function("m", "f", str(tmp_path))

    assert signature.parameters[0].type.text == text
    assert signature.returns.text == text


def test_parameters_say_what_must_be_given(tmp_path):
    (tmp_path / "m.py").write_text("def f(p, q=1, /, a=2, *args, b, c=3, **rest): ...\nasync def g(): ...\n", encoding="utf-8")

    signature = describe_function("m", "f", str(tmp_path))

    assert [(parameter.name, parameter.required) for parameter in signature.parameters] == [
        ("a", False),
        ("b", True),
        ("c", False),
    ]
    assert signature.positional == ("p",)
    assert signature.any_name
    assert describe_function("m", "g", str(tmp_path)).known


@pytest.mark.parametrize("source", ["from x import *\n", "def __getattr__(name): ...\n"])
def test_module_that_may_have_any_name_is_believed(tmp_path, source):
    (tmp_path / "m.py").write_text(source, encoding="utf-8")

    assert describe_function("m", "whatever", str(tmp_path)).known is False


@pytest.mark.parametrize(
    "source",
    [
        "try:\n    import f\nexcept ImportError:\n    def f(a): ...\n",
        "if True:\n    pass\nelse:\n    def f(a): ...\n",
        "f: object = None\n",
        "g, f = 1, 2\n",
        "import other as f\n",
        "class f: ...\n",
    ],
)
def test_names_within_blocks_and_assignments_exist(tmp_path, source):
    (tmp_path / "m.py").write_text(source, encoding="utf-8")

    assert describe_function("m", "f", str(tmp_path)) is not None


def test_folder_comes_before_what_is_installed(tmp_path):
    (tmp_path / "json.py").write_text("def only_here(): ...\n", encoding="utf-8")

    assert describe_function("json", "only_here", str(tmp_path)) is not None
    assert describe_function("json", "dumps", str(tmp_path)) is None


def test_installed_packages_are_not_imported(tmp_path):
    before = set(sys.modules)

    assert describe_function("email.mime.nonmultipart", "MIMENonMultipart", str(tmp_path)) is not None
    assert describe_function("email.mime.nothing", "x", str(tmp_path)) is None
    assert describe_function("wsgiref.simple_server", "make_server", str(tmp_path)).known
    assert describe_function("sys", "exit", str(tmp_path)).known is False
    assert not {"wsgiref", "wsgiref.simple_server", "email.mime.nonmultipart"} & (set(sys.modules) - before)


def test_escapes_of_a_users_module_warn_nobody(tmp_path):
    (tmp_path / "m.py").write_text("def f(): return '\\d'\n", encoding="utf-8")

    assert describe_function("m", "f", str(tmp_path)).known


def test_module_that_is_no_python_is_no_function(tmp_path):
    (tmp_path / "m.py").write_bytes(b"\x00\x01")

    assert describe_function("m", "f", str(tmp_path)) is None


def test_module_whose_name_is_too_long_for_a_file_is_not_there(tmp_path):
    assert describe_function("a" * 400, "f", str(tmp_path)) is None
