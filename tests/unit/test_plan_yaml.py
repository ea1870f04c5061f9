"""YAML: what is read as what, where it stood, and what is refused."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from drkit.errors import FileError, UsageError
from drkit.plan import yaml


def read(text: str) -> yaml.Document:
    return yaml.parse(text.encode(), "x.yaml")


def test_words_stay_words_and_numbers_are_numbers() -> None:
    document = read("[NO, 12:30, 2026-11-23, on, 010, 0o17, 0x1f, 1e3, ~, true, 'true', 1_000, -0x10]")
    assert document.data == ["NO", "12:30", "2026-11-23", "on", 10, 15, 31, 1000.0, None, True, "true", 1000, -16]
    assert not document.mistakes


def test_a_key_that_stands_twice_names_both_lines_and_the_first_counts() -> None:
    document = read("a: 1\nb: 2\na: 3\n")
    assert [str(mistake) for mistake in document.mistakes] == ['x.yaml:3:1  "a" stands twice: in line 1 and in line 3']
    assert document.data == {"a": 1, "b": 2}


def test_several_mistakes_are_all_kept() -> None:
    document = read("a: !!python/object:os.system x\n<<: {b: 1}\nc: .inf\nc: 1\n? {d: 1}\n: 2\n")
    assert [(mistake.line, mistake.message) for mistake in document.mistakes] == [
        (1, "the tag !!python/object:os.system is not supported"),
        (2, "merge keys (<<) are not supported"),
        (3, ".inf: a number must be finite"),
        (4, '"c" stands twice: in line 3 and in line 4'),
        (5, "a key must be a word"),
    ]


@pytest.mark.parametrize(
    ("text", "where", "message"),
    [
        ("a: [1,\nb: 2", (2, 5), "this is not YAML: expected ',' or ']', but got '<stream end>'"),
        ("a: b: c", (1, 5), "this is not YAML: mapping values are not allowed here"),
        ("a:\n\tb: 1", (2, 1), "this is not YAML: found character '\\t' that cannot start any token"),
        ("a: *nope", (1, 4), "this is not YAML: found undefined alias 'nope'"),
        ("a: 1\n---\nb: 2", (2, 1), "a file holds one document, here a second one begins"),
        ("", (1, 1), "the file is empty"),
        ("a: &x [*x]", (1, 4), "the file is too large or nested too deeply once its aliases are written out"),
    ],
)
def test_what_is_not_yaml_is_one_mistake_with_its_place(text: str, where: tuple[int, int], message: str) -> None:
    with pytest.raises(FileError) as error:
        read(text)
    (mistake,) = error.value.mistakes
    assert ((mistake.line, mistake.column), mistake.message) == (where, message)


def test_nesting_without_bound_is_a_mistake_and_no_traceback() -> None:
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(500)  # whatever another library has raised it to
    try:
        with pytest.raises(FileError, match="the file is nested too deeply"):
            read("[" * 500)
    finally:
        sys.setrecursionlimit(limit)
    with pytest.raises(FileError, match="nested too deeply once its aliases are written out"):
        read("[" * 50 + "]" * 50)


def test_aliases_cannot_make_a_file_grow_without_bound() -> None:
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x]\n" + "".join(
        f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 8)}]\n" for n in range(1, 12)
    )
    with pytest.raises(FileError, match="too large"):
        read(bomb)


def test_bytes_that_are_not_text_have_a_line() -> None:
    with pytest.raises(FileError, match=r"x.yaml:2:1  the file is not UTF-8 text"):
        yaml.parse(b"a: 1\nb: \xff\n", "x.yaml")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("e: now.ok == 1", (1, 11)),
        ('e: "now.ok == 1"', (1, 12)),
        ("e: |\n  now.ok == 1\n", (2, 10)),
        ("e: |\n    first &&\n      now.ok == 1\n", (3, 14)),
        ('e: "now.\\x6fk == 1"', (1, 4)),  # with escapes the columns differ: the text's beginning is the answer
    ],
)
def test_an_offset_into_a_text_becomes_a_place_in_the_file(text: str, expected: tuple[int, int]) -> None:
    document = read(text)
    value = document.data["e"]  # type: ignore[call-overload, index]
    assert isinstance(value, str)
    mistake = document.mistake(("e",), "here", offset=value.index("=="))
    assert (mistake.line, mistake.column) == expected


def test_a_missing_file_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no file"):
        yaml.read(tmp_path / "nope.yaml")
