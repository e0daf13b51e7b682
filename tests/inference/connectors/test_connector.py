"""The contracts of sources and sinks stay small, and the checks of them notice who breaks them."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator, Sequence

import pyarrow as pa
import pytest

from inference.connectors import connector, store
from inference.connectors.connector import Block
from inference.connectors.memory import MemorySource
from inference.ledger import ledger
from inference.shard import ShardRange
from tests.inference.connectors.contracts import check_source

CONTRACT_LINES_MAX = 90
ROWS = pa.table({"row_id": pa.array(range(10))})


@pytest.mark.parametrize("module", [connector, store, ledger], ids=lambda module: module.__name__)
def test_a_contract_is_read_at_a_glance(module) -> None:
    for node in ast.parse(inspect.getsource(module)).body:
        if isinstance(node, ast.ClassDef):
            assert (node.end_lineno or 0) - node.lineno < CONTRACT_LINES_MAX


class LosesItsLastRow(MemorySource):
    """Breaks the contract."""

    def read(self, shard: ShardRange, columns: Sequence[str], block_rows: int) -> Iterator[Block]:
        for block in super().read(shard, columns, block_rows):
            if block.columns.num_rows > 1:
                yield Block(block.first_row, block.columns.slice(0, block.columns.num_rows - 1))


def test_a_source_that_loses_a_row_is_caught() -> None:
    with pytest.raises(AssertionError):
        check_source(LosesItsLastRow(ROWS), ROWS)
