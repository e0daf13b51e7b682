"""Orders and reports survive their way as bytes."""

from __future__ import annotations

import msgspec
import pytest

from inference.protocols.process_orders import (
    Alive,
    CannotStart,
    Order,
    Orders,
    Report,
    Serving,
    StopOrder,
    decoded_order,
    decoded_report,
    encoded,
)
from inference.settings import ModelsSettings, RuntimeSettings, ServerSettings, Settings

SETTINGS = Settings(
    server=ServerSettings(port=9001, processes=3),
    models=ModelsSettings(versions=[1, 2], required=("lstm",)),
    runtime=RuntimeSettings(providers=("cpu",)),
)


@pytest.mark.parametrize("order", [Orders(SETTINGS, 1, 3, "/tmp/glassai-x", 2), StopOrder(), StopOrder(hurry=True)])
def test_orders_come_through(order: Order) -> None:
    assert decoded_order(encoded(order)) == order


@pytest.mark.parametrize("report", [Alive(), Serving(("lstm", "vit")), CannotStart("The folder 'ä' is missing.")])
def test_reports_come_through(report: Report) -> None:
    assert decoded_report(encoded(report)) == report


def test_a_report_is_no_order() -> None:
    with pytest.raises(msgspec.ValidationError):
        decoded_order(encoded(Alive()))
