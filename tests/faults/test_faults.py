"""The short form of the fault injection; `make torture` is the long one."""

from pathlib import Path

import pytest

from faults.list import FAULTS, Fault
from faults.tally import Tally


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault.short], ids=lambda fault: fault.name)
def test_nothing_is_lost(fault: Fault, tmp_path: Path) -> None:
    tally = Tally(fault.name)
    fault.attempt(tally, tmp_path, fault.short)
    assert tally.losses == []
    assert tally.tried or tally.skipped
