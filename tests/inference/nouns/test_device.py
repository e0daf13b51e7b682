"""A device says where a session runs, and why not elsewhere."""

from __future__ import annotations

import msgspec
import pytest

from inference.device import Device


def test_a_device_passed_nothing_over_unless_it_says_so() -> None:
    assert Device("cpu").passed_over == ()


def test_reasons_are_kept_in_the_order_of_trial() -> None:
    device = Device("cpu", ("tensorrt: not in this build", "cuda: no driver"))
    assert [reason.split(":")[0] for reason in device.passed_over] == ["tensorrt", "cuda"]
    assert msgspec.to_builtins(device)["provider"] == "cpu"


def test_a_device_does_not_change() -> None:
    with pytest.raises(AttributeError, match="immutable"):
        Device("cpu").provider = "cuda"  # pyrefly: ignore[read-only] - the refusal is what is tested
