"""Settings hold their own defaults, bounds and meanings."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest
from msgspec.structs import fields

from inference.settings import Settings, cross_problems


def keys() -> Iterator[tuple[str, object, msgspec.inspect.Type]]:
    """Every key as section.name with its default and type."""
    for section in fields(Settings):
        for item in fields(section.type):
            yield f"{section.name}.{item.name}", item.default, msgspec.inspect.type_info(item.type)


def test_the_defaults_agree_with_each_other() -> None:
    assert cross_problems(Settings()) == []


def test_the_server_answers_this_machine_only_unless_told_otherwise() -> None:
    assert Settings().server.host == "127.0.0.1"


@pytest.mark.parametrize(("key", "default", "kind"), [pytest.param(*k, id=k[0]) for k in keys()])
def test_every_key_says_what_it_means(key: str, default: object, kind: msgspec.inspect.Type) -> None:
    assert isinstance(kind, msgspec.inspect.Metadata), f"{key} has no description"
    assert kind.extra_json_schema
    assert len(str(kind.extra_json_schema["description"])) > 15


def test_every_default_is_within_its_own_bounds() -> None:
    assert msgspec.convert(msgspec.to_builtins(Settings()), Settings) == Settings()


def test_no_default_can_be_changed_by_accident() -> None:
    assert [key for key, default, _ in keys() if isinstance(default, list | dict | set)] == []


@pytest.mark.parametrize(
    "given",
    [
        {"server": {"port": 70000}},
        {"server": {"port": -1}},
        {"server": {"request_timeout_s": 0}},
        {"queue": {"rows_max": 0}},
        {"background": {"batch_ms_max": 0}},
        {"background": {"share_min": 0.6}},
        {"background": {"share_min": -0.1}},
        {"scaling": {"runners_min": 0}},
        {"scaling": {"target_delay_ms": 0}},
        {"lines": {"rows_held_extra": -1}},
        {"images": {"formats": []}},
        {"images": {"formats": ["gif"]}},
        {"logging": {"level": "LOUD"}},
        {"models": {"versions": "newest"}},
        {"server": {"prot": 80}},
        {"servers": {}},
    ],
)
def test_what_cannot_be_honoured_is_refused(given: dict) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(given, Settings)


@pytest.mark.parametrize("most", [0, 2, 3])
def test_as_many_runners_as_the_fewest_or_more_can_be_the_most(most: int) -> None:
    given = msgspec.convert({"scaling": {"runners_min": 2, "runners_max": most}}, Settings)
    assert cross_problems(given) == []


def test_fewer_runners_at_most_than_at_least_are_a_problem() -> None:
    given = msgspec.convert({"scaling": {"runners_min": 3, "runners_max": 2}}, Settings)
    (problem,) = cross_problems(given)
    assert problem == (
        "scaling.runners_max: given 2, accepted at least scaling.runners_min (3), or 0 for as many as the cores allow"
    )


def test_giving_up_as_fast_as_growing_is_a_problem() -> None:
    given = msgspec.convert({"scaling": {"grow_after_s": 2, "shrink_after_s": 2}}, Settings)
    (problem,) = cross_problems(given)
    assert problem.startswith("scaling.shrink_after_s: given 2, accepted more than scaling.grow_after_s (2)")


@pytest.mark.parametrize("versions", ["latest", "all", [1, 3]])
def test_versions_are_latest_all_or_listed(versions: object) -> None:
    assert msgspec.convert({"models": {"versions": versions}}, Settings).models.versions == versions


def test_a_canary_that_is_always_too_old_is_a_problem() -> None:
    given = msgspec.convert({"health": {"canary_interval_s": 20, "canary_max_age_s": 15}}, Settings)
    (problem,) = cross_problems(given)
    assert problem == "health.canary_max_age_s: given 15, accepted more than health.canary_interval_s (20)"
