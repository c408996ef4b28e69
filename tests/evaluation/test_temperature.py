"""The temperature of confidences: what is asked for, what was fitted, and when a fitted one is offered."""

import numpy as np
import pytest
from helpers.model_runs import calibrate
from helpers.run_folders import changed, started

from hw1.errors import UserError
from hw1.evaluation.calibration import calibrate as fit
from hw1.evaluation.calibration import fit_temperature
from hw1.evaluation.temperature import (
    MIN_IMAGES,
    FittedTemperature,
    choose_temperature,
    load_temperature,
    parse_temperature,
    why_doubtful,
)

FACTS = {"checkpoint": "best", "epoch": 3}
BEFORE = {"nll": 1.0, "brier": 0.5}


def test_a_number_above_0_or_fitted():
    assert (parse_temperature("fitted"), parse_temperature("2"), parse_temperature("1e-3")) == ("fitted", 2.0, 0.001)
    for text in ("0", "-1", "nan", "inf", "", "Fitted", "1,5"):
        with pytest.raises(UserError, match=r"^--temperature: must be fitted or a number above 0, got "):
            parse_temperature(text)


@pytest.mark.parametrize(
    ("num", "after", "doubt"),
    [
        (MIN_IMAGES, {"nll": 0.9, "brier": 0.4}, ""),
        (MIN_IMAGES - 1, {"nll": 0.9, "brier": 0.4}, f"fitted on {MIN_IMAGES - 1} images, of which it takes {MIN_IMAGES}"),
        (MIN_IMAGES, {"nll": 0.9, "brier": 0.5}, "on images that it was not fitted on Brier score did not improve"),
        (MIN_IMAGES, {"nll": 1.1, "brier": 0.4}, "on images that it was not fitted on cross-entropy did not improve"),
        (MIN_IMAGES, {"nll": float("nan"), "brier": 0.4}, "on images that it was not fitted on cross-entropy did not improve"),
    ],
)
def test_it_takes_enough_images_and_both_scores_better(num, after, doubt):
    assert why_doubtful(num, BEFORE, after) == doubt


def test_enough_images_determine_it():
    """Logits 1.3 times too large, labels drawn by the probabilities: on few images the temperature is far off now and then."""
    rng, errors = np.random.default_rng(0), {}
    for num in (60, MIN_IMAGES):
        errors[num] = []
        for _ in range(12):
            logits = rng.normal(size=(num, 10)) * 3
            odds = np.exp(logits)
            labels = (np.cumsum(odds / odds.sum(1, keepdims=True), axis=1) > rng.random((num, 1))).argmax(1)
            errors[num].append(np.log(fit_temperature(1.3 * logits, labels) / 1.3))
        if num == MIN_IMAGES:
            found = fit(1.3 * logits, labels)
            assert why_doubtful(num, found.before, found.after) == ""
    assert np.std(errors[MIN_IMAGES]) < 0.08 < np.std(errors[60])


def test_what_is_asked_for_is_taken_and_doubt_is_said(capsys):
    sure, doubtful = FittedTemperature(1.5), FittedTemperature(0.5, "fitted on 60 images")
    assert [choose_temperature(1.0, fitted) for fitted in (None, sure, doubtful)] == [1.0] * 3
    assert choose_temperature("fitted", sure) == 1.5
    assert capsys.readouterr().err == ""
    assert choose_temperature("fitted", doubtful) == 0.5
    assert capsys.readouterr().err == "--temperature fitted: 0.500 is doubtful: fitted on 60 images\n"
    with pytest.raises(UserError, match="none was fitted for these weights"):
        choose_temperature("fitted", None)


def test_it_belongs_to_its_weights_and_a_damaged_file_is_named(tmp_path):
    run = started(changed(f"run.dir={tmp_path}"))
    assert load_temperature(run, FACTS) is None
    calibrate(run, 1.7)
    assert load_temperature(run, FACTS) == FittedTemperature(1.7)
    assert load_temperature(run, {**FACTS, "epoch": 4}) is None
    assert load_temperature(run, {**FACTS, "step": 2}) is None
    for wrong in (0.0, -1.0, float("nan"), float("inf"), "1.7", True, None):
        calibrate(run, wrong)
        with pytest.raises(UserError, match=r"calibration\.json: damaged; .*hw1 validate .* writes it anew"):
            load_temperature(run, FACTS)
    for text in ("{", "[]", "[" * 200_000, '{"checkpoint": "best", "epoch": 3, "step": 0, "temperature": 1.7}'):
        run.calibration.write_text(text)
        with pytest.raises(UserError, match=r"calibration\.json: damaged"):
            load_temperature(run, FACTS)
