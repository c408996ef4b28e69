"""The short form of the fault injection; `make torture` is the long one."""

from pathlib import Path

import pytest
from hypothesis import strategies as st

from faults import fuzz
from faults.list import FAULTS, Fault
from faults.tally import Tally

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault.short], ids=lambda fault: fault.name)
def test_nothing_is_lost(fault: Fault, tmp_path: Path) -> None:
    tally = Tally(fault.name)
    fault.attempt(tally, tmp_path, fault.short)
    assert tally.losses == []
    assert tally.tried or tally.skipped


def test_a_failing_case_is_kept_and_tried_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of all data that fail the one that they shrink to; it counts as lost until it is mended, in every later run."""
    monkeypatch.setattr(fuzz, "CASES", tmp_path / "cases")
    monkeypatch.setattr(fuzz, "ROOT", tmp_path)
    tried: list[bytes] = []

    def check(data: bytes) -> None:
        tried.append(data)
        assert b"\x07" not in data or is_mended

    is_mended = False
    tally = Tally("fuzz")
    fuzz.run_on_bytes(tally, 500, "kind", check, data=st.binary(max_size=8))
    (case,) = (tmp_path / "cases" / "kind").iterdir()
    assert case.read_bytes() == b"\x07"
    assert f"kept as cases/kind/{case.name}" in tally.losses[0]
    tried.clear()
    tally = Tally("fuzz")
    fuzz.run_on_bytes(tally, 1, "kind", check, data=st.just(b""))
    assert tried == [b"\x07", b""]
    assert tally.losses[0].startswith(f"kept case {case.name}: ")
    is_mended = True
    tally = Tally("fuzz")
    fuzz.run_on_bytes(tally, 5, "kind", check, data=st.binary(max_size=8))
    assert (tally.losses, tally.seen["kept cases"]) == ([], 1)
