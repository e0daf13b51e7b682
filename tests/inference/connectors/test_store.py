"""The checks of a store notice one whose files are seen too early."""

from __future__ import annotations

import pytest

from inference.connectors.memory import MemoryDraft, MemoryStore
from tests.inference.connectors.contracts import check_store


class SeenTooEarly(MemoryStore):
    """Breaks the contract."""

    def create(self, name: str) -> MemoryDraft:
        draft = super().create(name)
        draft.commit()
        return draft


def test_a_store_that_shows_a_file_before_it_is_whole_is_caught() -> None:
    with pytest.raises(AssertionError):
        check_store(SeenTooEarly())
