import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.card import NAME_PATTERN, CardError, ModelCard, Task, weights_digest

STYLE = ModelCard(
    name="candy",
    task=Task.STYLE,
    architecture="johnson-cin-5",
    width=16,
    digest="ab" * 32,
    norm_size=1600,
    trunk_digest="cd" * 32,
    training={"steps": 800, "hours": 0.25},
    quality={"objective_256": 9.5},
    source={"title": "Candy", "artist": "Natasha Wescoat"},
)
TRUNK = dataclasses.replace(STYLE, name="trunk-w16", task=Task.STYLE_TRUNK, trunk_digest=None)
UPSCALER = ModelCard(name="x4", task=Task.UPSCALE, architecture="compact", width=64, digest="ef" * 32, factor=4)


@pytest.mark.parametrize("card", [STYLE, TRUNK, UPSCALER], ids=lambda card: card.name)
def test_a_card_survives_the_round_trip(card: ModelCard) -> None:
    assert ModelCard.from_json(card.to_json()) == card
    assert ModelCard.from_json(card.to_json().encode()) == card


def test_fields_of_a_newer_version_are_passed_over() -> None:
    fields = json.loads(STYLE.to_json()) | {"colour_space": "display-p3"}

    assert ModelCard.from_json(json.dumps(fields)) == STYLE


@pytest.mark.parametrize("name", ["", "Candy", "candy!", "../candy", "-candy", "a" * 65, "candy\n"])
def test_bad_names_are_refused(name: str) -> None:
    with pytest.raises(CardError, match="lower-case letters"):
        dataclasses.replace(STYLE, name=name)


@given(st.from_regex(NAME_PATTERN, fullmatch=True))
def test_names_that_fit_the_pattern_are_taken(name: str) -> None:
    assert dataclasses.replace(STYLE, name=name).name == name


@pytest.mark.parametrize(
    ("card", "field"), [(STYLE, "norm_size"), (STYLE, "trunk_digest"), (TRUNK, "norm_size"), (UPSCALER, "factor")]
)
def test_a_card_without_what_its_task_needs_is_refused(card: ModelCard, field: str) -> None:
    fields = json.loads(card.to_json()) | {field: None}

    with pytest.raises(CardError, match="lacks a field"):
        ModelCard.from_json(json.dumps(fields))


@pytest.mark.parametrize(
    ("card", "field", "value"),
    [
        (STYLE, "name", 7),
        (STYLE, "trunk_digest", ["cd"]),
        (STYLE, "norm_size", 1600.0),
        (TRUNK, "digest", None),
        (TRUNK, "architecture", {}),
        (TRUNK, "width", "16"),
        (TRUNK, "norm_size", 0),
        (UPSCALER, "factor", [4]),
        (UPSCALER, "factor", 4.0),
        (UPSCALER, "factor", True),
        (UPSCALER, "factor", -4),
    ],
)
def test_a_card_with_another_type_of_value_is_refused(card: ModelCard, field: str, value: object) -> None:
    fields = json.loads(card.to_json()) | {field: value}

    with pytest.raises(CardError, match=f"The {field} in the card"):
        ModelCard.from_json(json.dumps(fields))


@pytest.mark.parametrize(
    "text",
    ["", "not json", "[]", "null", "{}", '{"task": "style"}', '{"task": "sculpture", "name": "x"}', b"\xff\xfe\x00"],
)
def test_what_is_no_card_is_refused(text: str | bytes) -> None:
    with pytest.raises(CardError):
        ModelCard.from_json(text)


@pytest.mark.parametrize(
    "source",
    [{"year": 1913}, {"title": None}, {1913: "year"}, {"title": "\ud800"}, {"\udfff": "title"}, ["title"], None, "x"],
)
def test_a_source_that_is_not_made_of_texts_is_refused(source: object) -> None:
    fields = json.loads(STYLE.to_json()) | {"source": source}

    with pytest.raises(CardError, match="'candy' is not made of texts"):
        dataclasses.replace(STYLE, source=source)  # type: ignore[arg-type]
    if not (isinstance(source, dict) and 1913 in source):  # JSON would write the key as a text
        with pytest.raises(CardError, match="'candy' is not made of texts"):
            ModelCard.from_json(json.dumps(fields))


def test_a_source_may_be_of_any_script() -> None:
    card = dataclasses.replace(STYLE, source={"artist": "葛飾北斎 🌊", "title": ""})

    assert ModelCard.from_json(card.to_json()) == card


def test_the_digest_does_not_depend_on_the_order() -> None:
    assert weights_digest([("a", b"1"), ("b", b"2")]) == weights_digest([("b", b"2"), ("a", b"1")])


@pytest.mark.parametrize(
    "other",
    [
        [("a", b"1"), ("b", b"3")],
        [("a", b"1"), ("c", b"2")],
        [("a", b"1")],
        [("a", b"12"), ("b", b"")],
    ],
)
def test_the_digest_tells_other_weights_apart(other: list[tuple[str, bytes]]) -> None:
    assert weights_digest(other) != weights_digest([("a", b"1"), ("b", b"2")])


def test_verify_takes_its_own_weights_and_refuses_others() -> None:
    weights = {"norm_P": b"\x00\x01"}
    card = dataclasses.replace(STYLE, digest=weights_digest(weights.items()))

    card.verify(weights)
    with pytest.raises(CardError, match="digest mismatch"):
        card.verify({"norm_P": b"\x00\x02"})
