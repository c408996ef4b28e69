"""What a benchmark that was stopped may go on with."""

import json
from pathlib import Path

from benchmarks.common.result_file import ResultFile, earlier_results


def test_only_results_of_the_same_code_and_settings_are_gone_on_with(tmp_path: Path) -> None:
    out = tmp_path / "result.json"
    settings = {"tries": {1: 3}, "sizes": (8, 32)}  # in JSON they are {"1": 3} and [8, 32]
    assert earlier_results(out, settings) == {}
    ResultFile("example", {}, settings, out, {"rows": [1, 2]})
    assert earlier_results(out, settings)["rows"] == [1, 2]
    assert earlier_results(out, settings | {"sizes": (8,)}) == {}
    content = json.loads(out.read_text())
    content["machine"]["git"] = {"commit": "another", "modified": False}
    out.write_text(json.dumps(content))
    assert earlier_results(out, settings) == {}
    assert earlier_results(None, settings) == {}
