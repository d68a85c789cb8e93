"""Plan files: one meaning to every program, or refused by the line."""

from decimal import Decimal

import pytest
from documents import JSON, PLANS, TEXT
from hypothesis import given
from hypothesis import strategies as st

from sidemeter_control.errors import InvalidInput
from sidemeter_control.pricing.documents import Document, document
from sidemeter_control.pricing.plan_files import MAX_FILE_CHARS, read_yaml, write_yaml
from sidemeter_control.pricing.plans import PlanSpec


@pytest.mark.parametrize(
    "word",
    [
        "no",
        "Yes",
        "on",
        "OFF",
        "True",
        "NULL",
        "010",
        "0o17",
        "0x1F",
        "1_000",
        "+1",
        "-0",
        "18:00",
        "1:30.5",
        "1e3",
        "1.5e3",
        "-1E-2",
        ".5",
        "1.",
        ".inf",
        "-.INF",
        ".nan",
        "<<",
        "=",
        "2026-01-01",
        "2026-01-01T00:00:00Z",
    ],
)
def test_a_word_that_programs_read_differently_must_be_quoted(word: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        read_yaml(f"key: pro\nname: {word}")
    assert str(caught.value) == f"line 2: {word} must be quoted: programs read it differently"
    assert read_yaml(f"name: '{word}'") == [{"name": word}]
    assert read_yaml(f'name: "{word}"') == [{"name": word}]


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("", []),
        ("# only a comment", []),
        ("key: pro # said\n---\nkey: team", [{"key": "pro"}, {"key": "team"}]),
        (
            "a: 12\nb: -3\nc: 0\nd: true\ne: false\nf: null\ng: ~\nh:",
            [{"a": 12, "b": -3, "c": 0, "d": True, "e": False, "f": None, "g": None, "h": None}],
        ),
        ("a: 0.10\nb: -2.5", [{"a": Decimal("0.10"), "b": Decimal("-2.5")}]),
        ("a: [x, {b: y}]\nc: |\n  two\n  lines\n", [{"a": ["x", {"b": "y"}], "c": "two\nlines\n"}]),
        ("from: 09:00", [{"from": "09:00"}]),
    ],
)
def test_the_rest_is_read_as_it_says(text: str, values: list[object]) -> None:
    assert read_yaml(text) == values


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: &x [1]\nb: *x", "line 2: must be written out: there are no aliases here"),
        ("a: &x [*x]", "line 1: must be written out"),
        ("a: 1\nb: 2\na: 3", "line 3: a must be written once"),
        ("a: !!python/object:os.system x", "line 1: must not have the tag tag:yaml.org,2002:python/object:os.system"),
        ("a: !x [1]", "line 1: must not have the tag !x"),
        ("a: !x {b: 1}", "line 1: must not have the tag !x"),
        ("a: !!set {b, c}", "line 1: must not have the tag tag:yaml.org,2002:set"),
        ("1: a", "line 1: 1 must be quoted: the name of a field is text"),
        ("[a]: b", "line 1: ['a'] must be quoted"),
        ("a: [1\nb: 2", "line 2: "),
        ("a: b\n\tc: d", "line 2: "),
        ("a: \0", "file: "),
        ("[" * 1000, "file: must not be nested so deeply"),
        ("a: " + "9" * 5000, "line 1: 999"),
    ],
)
def test_what_is_no_plain_data_is_refused_by_its_line(text: str, message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        read_yaml(text)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("more", [-1, 0, 1])
def test_a_file_has_only_so_many_characters(more: int) -> None:
    text = "#" * (MAX_FILE_CHARS + more)
    if more > 0:
        with pytest.raises(InvalidInput, match="file: must be at most 1000000 characters"):
            read_yaml(text)
    else:
        assert read_yaml(text) == []


def test_it_is_written_to_be_read_by_people() -> None:
    charge = {"key": "api", "meter": "calls", "name": "API calls", "unitPrice": "0.10"}
    text = (
        "key: pro\nname: 'no'\ncharges:\n  - key: api\n    meter: calls\n    name: API calls\n    unitPrice: \"0.10\"\n"
    )
    assert write_yaml([{"key": "pro", "name": "no", "charges": [charge]}]) == text


@given(st.lists(st.dictionaries(TEXT, JSON, min_size=1, max_size=3), max_size=3))
def test_every_document_is_read_as_it_was_written(documents: list[Document]) -> None:
    assert read_yaml(write_yaml(documents)) == documents


@pytest.mark.no_cover
@given(st.lists(PLANS, max_size=2))
def test_every_plan_is_read_as_it_was_written(specs: list[PlanSpec]) -> None:
    assert read_yaml(write_yaml(map(document, specs))) == [document(spec) for spec in specs]
