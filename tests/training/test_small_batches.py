"""Batches of one image, and one image more than a batch: models whose BatchNorm lies behind a global pool train on them too."""

import pytest
import torch
from helpers.tiny_training import make, steps


@pytest.mark.slow
@pytest.mark.parametrize("name", ["skresnet18", "levit_128s"])
def test_trains_on_a_batch_of_one_and_on_a_last_one_of_one(name: str) -> None:
    options = {"name": name, "pretrained": False, "cbam_stages": (), "drop_layer3": 0.0, "drop_rate": 0.0}
    training = make(model=options)
    before = {key: value.clone() for key, value in training.model.named_parameters()}
    assert all(steps(training, 1, 3, 1))
    assert training.sums[2] == 5
    assert torch.isfinite(training.sums).all()
    assert all(torch.isfinite(value).all() for value in training.model.parameters())
    assert any(not torch.equal(value, before[key]) for key, value in training.model.named_parameters())
