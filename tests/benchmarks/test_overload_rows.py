"""The bars of an overload: each is held to its own limit, and a void run meets none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.load import Target
from benchmarks.open_loop import OpenRun
from benchmarks.overload import Overload
from benchmarks.overload_rows import Ground, Scene, Seen, bars_of, facts_of
from benchmarks.questions import Question

NOTHING = np.zeros(0)
RUN = OpenRun(NOTHING, NOTHING, NOTHING, NOTHING.astype(np.int16), NOTHING.astype(np.uint16), seconds=100.0, lag="")
QUESTION = Question("/", b"", float, 0.0)
SCENE = Scene("ViT at 2x", QUESTION, Path("vit/1/model.onnx"), (3, 64, 64), 16, 2.0, 0.95, critical=True)
GROUND = Ground(Target("http://h/", b""), peak_s=300.0, p50_ms=4.0, p99_ms=10.0, batch_ms=3.0)
BANDS = ("critical", "high", "normal", "low")
GOOD = Overload(
    requests=60_000,
    accepted=30_000,
    in_time=29_990,
    in_time_from_send=29_995,
    late_status=10,
    failed=0,
    goodput_s=299.9,
    refused_p99_ms=1.0,
    critical_p99_ms=15.9,
    p99_ms=dict.fromkeys(BANDS, 20.0),
    accepted_share=dict.fromkeys(BANDS, 0.5),
)


def met(growth_mb: float = 1.0, lag: str = "", **changed: float) -> list[bool]:
    """Which bars are met: in time, goodput, critical, memory."""
    figures = replace(GOOD, **changed)  # pyrefly: ignore[bad-argument-type] - fields of Overload
    return [bar.met for bar in bars_of(SCENE, GROUND, Seen(replace(RUN, lag=lag), figures, 300.0, growth_mb, 20_000))]


def test_a_good_run_meets_every_bar() -> None:
    assert met() == [True] * 4


@pytest.mark.parametrize(
    ("changed", "place"),
    [({"in_time": 29_960}, 0), ({"goodput_s": 284.0}, 1), ({"critical_p99_ms": 16.1}, 2), ({"growth_mb": 8.1}, 3)],
)
def test_each_bar_has_its_own_limit(changed: dict[str, float], place: int) -> None:
    assert met(**changed) == [number != place for number in range(4)]


def test_a_void_run_meets_none_and_says_why() -> None:
    assert met(lag="the generator came late") == [False] * 4
    seen = Seen(replace(RUN, lag="the generator came late"), GOOD, 300.0, 1.0, 20_000)
    assert all("(void: the generator came late)" in bar.figure for bar in bars_of(SCENE, GROUND, seen))


def test_too_few_accepted_requests_are_told() -> None:
    (first, *_) = bars_of(SCENE, GROUND, Seen(RUN, replace(GOOD, accepted=9_000, in_time=9_000), 300.0, 1.0, 20_000))
    assert first.beside.startswith("9,000 accepted, fewer than the 20,000 asked for")


def test_a_scene_without_a_bar_is_only_shown() -> None:
    seen = Seen(RUN, GOOD, 300.0, 1.0, 0)
    assert bars_of(replace(SCENE, goodput_min=None), GROUND, seen) == []
    facts = dict(facts_of(SCENE, GROUND, seen))
    assert facts["ViT at 2x: offered"] == "600 requests/s for 100 s, peak 300"
    assert facts["ViT at 2x: goodput against peak"] == "100.0%"
