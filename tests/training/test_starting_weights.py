"""`model.weights` at the start of a training: what was changed on loading is said once, by the first process."""

from pathlib import Path

import pytest
import torch
from helpers.tiny_training import make

from hw1.models.factory import build_model
from hw1.runtime import distributed


def test_what_was_changed_is_said_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    start = make()
    path = tmp_path / "start.pth"
    torch.save({"state_dict_ema": {f"module.{name}": value for name, value in start.model.state_dict().items()}}, path)
    model = start.recipe.model.model_dump() | {"weights": str(path)}
    capsys.readouterr()
    loaded = make(model=model)
    kept = "kept its classifier of 5 classes, which must be those of the data in the same order"
    line = f"model.weights: {path}: took state_dict_ema; stripped module. off the names; {kept}\n"
    assert capsys.readouterr() == ("", line)
    assert all(torch.equal(value, start.model.state_dict()[name]) for name, value in loaded.model.state_dict().items())
    monkeypatch.setattr(distributed, "is_main", lambda: False)
    make(model=model)
    assert capsys.readouterr() == ("", "")
    build_model(loaded.recipe.model, 5, load_weights=False)
    assert capsys.readouterr() == ("", "")
