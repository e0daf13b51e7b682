"""One row of sensor values: every fault is found, and a gap takes the row before where the model allows it."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.errors import InvalidValues, UnknownField
from inference.pipeline.features import FeatureCheck
from tests.inference.pipeline.plant import FEATURES, row

CHECK = FeatureCheck(FEATURES)
BEFORE = [1500.0, 140.0, 12.0]


def test_a_good_row_gives_its_values_in_the_order_of_the_features() -> None:
    fields = {"pressure": 15, "timestamp": "any", "belt_speed": 150.0, "furnace_temperature": 1550.0}
    assert CHECK.read(fields).filled(None) == ([1550.0, 150.0, 15], 0)


def test_both_ends_of_a_range_belong_to_it() -> None:
    assert CHECK.read(row(1400, 300, -10)).filled(None) == ([1400, 300, -10], 0)


@pytest.mark.parametrize("value", [None, "15", True, [15.5], {}, math.nan, math.inf, -math.inf, 50.001, 10**400])
def test_what_is_no_valid_number_is_named_with_its_range_and_unit(value: object) -> None:
    with pytest.raises(InvalidValues) as caught:
        CHECK.read(row(pressure=value)).filled(BEFORE)
    (fault,) = caught.value.details
    assert fault.field == "data.pressure"
    assert fault.accepted == "a number from -10 to 50 Pa"


def test_every_fault_of_a_row_is_named_at_once() -> None:
    with pytest.raises(InvalidValues) as caught:
        CHECK.read({"furnace_temperature": "hot", "belt_speed": False}).filled(None)
    assert [(fault.field, fault.given) for fault in caught.value.details] == [
        ("data.furnace_temperature", "'hot'"),
        ("data.belt_speed", "False"),
        ("data.pressure", "nothing"),
    ]


def test_unknown_fields_are_refused_with_the_nearest_known_one() -> None:
    with pytest.raises(UnknownField) as caught:
        CHECK.read({**row(), "presure": 1.0})
    assert caught.value.details[0].field == "data.presure"
    assert "pressure" in caught.value.details[0].accepted


def test_an_unknown_field_in_place_of_a_known_one_is_found_too() -> None:
    with pytest.raises(UnknownField):
        CHECK.read({"furnace_temperature": 1550.0, "belt_speed": 150.0, "presure": 15.5})


@pytest.mark.parametrize("missing", [None, math.nan])
def test_a_missing_value_holds_the_last_one_where_the_model_allows_it(missing: object) -> None:
    assert CHECK.read(row(temperature=missing)).filled(BEFORE) == ([1500.0, 150.0, 15.5], 0b001)


def test_a_value_out_of_range_holds_the_last_one_where_the_model_allows_it() -> None:
    assert CHECK.read(row(speed=9000)).filled(BEFORE) == ([1550.0, 140.0, 15.5], 0b010)


def test_text_in_place_of_a_number_is_never_held() -> None:
    with pytest.raises(InvalidValues):
        CHECK.read(row(temperature="1550")).filled(BEFORE)


def test_without_a_row_before_a_gap_is_a_fault() -> None:
    with pytest.raises(InvalidValues) as caught:
        CHECK.read(row(temperature=None, pressure=None)).filled(None)
    assert {fault.field for fault in caught.value.details} == {"data.furnace_temperature", "data.pressure"}


def test_rows_of_numbers_are_named_by_their_feature() -> None:
    assert [fault.field for fault in CHECK.array_faults([math.nan, 150.0, 99.0], "input[0][3]")] == [
        "input[0][3].pressure",
        "input[0][3].furnace_temperature",
    ]


@given(
    st.dictionaries(
        st.sampled_from([*row(), "timestamp", "other"]), st.none() | st.floats() | st.text() | st.integers()
    )
)
def test_every_value_is_either_taken_as_it_is_or_reported(fields: dict[str, Any]) -> None:
    wrong = [
        feature
        for feature in FEATURES
        if type(fields.get(feature.name)) not in (int, float)
        or not feature.valid_min <= fields[feature.name] <= feature.valid_max
    ]
    if "other" in fields:
        with pytest.raises(UnknownField):
            CHECK.read(fields)
        return
    reading = CHECK.read(fields)
    assert len(reading.faults) + len(reading.gaps) == len(wrong)
    if not reading.faults:
        values, held = reading.filled(BEFORE)
        assert held == sum(1 << FEATURES.index(feature) for feature in wrong)
        assert values == [BEFORE[i] if f in wrong else fields[f.name] for i, f in enumerate(FEATURES)]
