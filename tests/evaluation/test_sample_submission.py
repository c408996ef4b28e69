"""Predictions in the shape of a sample submission, read back with pandas."""

import io
from pathlib import Path

import numpy as np
import pandas
import pytest
from scipy.special import softmax

from hw1.errors import UserError
from hw1.evaluation.predictions import Predictions
from hw1.evaluation.sample_submission import SampleSubmission, read_sample

FILES = ["test/a.jpg", "test/b.png", "test/c d.jpg", "test/e.jpg"]
NAMES = ["cat", "dog", "sea lion"]
LOGITS = np.random.default_rng(4).normal(0, 2, (4, 3)).astype(np.float32)
BEST = LOGITS.argmax(1)


def predictions(logits: np.ndarray = LOGITS) -> Predictions:
    return Predictions(np.arange(len(logits)), logits, np.full(len(logits), -1))


def read(folder: Path, text: str, names: list[str] = NAMES, descriptions: dict[str, str] | None = None) -> SampleSubmission:
    path = folder / "sample.csv"
    path.write_text(text)
    return read_sample(path, FILES, names, descriptions or {})


def filled(sample: SampleSubmission, temperature: float = 1.0, logits: np.ndarray = LOGITS) -> pandas.DataFrame:
    return pandas.read_csv(io.BytesIO(sample.fill_in(predictions(logits), temperature)), sep=sample.table.delimiter, dtype={0: str})


def refused(folder: Path, text: str, **options: object) -> tuple[str, ...]:
    with pytest.raises(UserError) as caught:
        read(folder, text, **options)
    place = f"--sample-submission: {folder / 'sample.csv'}"
    assert all(line.startswith(place) and "\n" not in line for line in caught.value.problems)
    return tuple(line.removeprefix(place).lstrip(",: ") for line in caught.value.problems)


@pytest.mark.parametrize(
    "ids",
    [
        ["e.jpg", "b.png", "a.jpg", "c d.jpg"],
        ["e", "b", "a", "c d"],
        ["test/e.jpg", "test/b.png", "test/a.jpg", "test/c d.jpg"],
        ["test/e", "test/b", "test/a", "test/c d"],
    ],
)
@pytest.mark.parametrize("separator", [",", ";"])
def test_rows_ids_header_and_separator_are_the_samples(tmp_path, ids, separator):
    text = "".join(f"{name}{separator}cat\n" for name in ids)
    table = filled(read(tmp_path, f"Image Id{separator}Prediction\n{text}"))
    assert list(table.columns) == ["Image Id", "Prediction"]
    assert table["Image Id"].tolist() == ids
    assert table["Prediction"].tolist() == [NAMES[BEST[i]] for i in (3, 1, 0, 2)]


@pytest.mark.parametrize(
    ("names", "placeholder", "expected"),
    [
        (["cat", "dog", "sea lion"], "dog", ["cat", "dog", "sea lion"]),
        (["cat", "dog", "sea lion"], "0", ["cat", "dog", "sea lion"]),
        (["cat", "dog", "sea lion"], "", ["cat", "dog", "sea lion"]),
        (["001", "002", "010"], "2", ["1", "2", "10"]),
        (["001", "002", "010"], "002", ["001", "002", "010"]),
        (["0", "1", "2"], "the cat", ["the cat", "the dog", "the lion"]),
    ],
)
def test_labels_are_called_as_in_the_sample(tmp_path, names, placeholder, expected):
    called = dict(zip("012", ("the cat", "the dog", "the lion"), strict=True))
    sample = read(tmp_path, "".join(["id,label\n", *(f"{name},{placeholder}\n" for name in "abe"), f"c d,{placeholder}\n"]), names, called)
    rows = sample.fill_in(predictions(), 1.0).decode().splitlines()[1:]
    assert [row.split(",")[1] for row in rows] == [expected[BEST[i]] for i in (0, 1, 3, 2)]


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_columns_of_classes_hold_probabilities(tmp_path, temperature):
    table = filled(read(tmp_path, "id,sea lion,cat,dog\ne,0,0,1\na,0,0,1\nb,0,0,1\nc d,0,0,1\n"), temperature)
    expected = softmax(LOGITS.astype(np.float64) / temperature, axis=1)[[3, 0, 1, 2]]
    np.testing.assert_allclose(table[NAMES].to_numpy(), expected, rtol=1e-9)


def test_one_column_of_fractions_is_the_probability_of_class_1(tmp_path):
    text = "id,target\na,0.5\nb,0.5\nc d,0.5\ne,0.5\n"
    table = filled(read(tmp_path, text, ["0", "1"]), 1.0, LOGITS[:, :2])
    np.testing.assert_allclose(table["target"], softmax(LOGITS[:, :2].astype(np.float64), axis=1)[:, 1], rtol=1e-9)
    assert refused(tmp_path, text) == (
        "column 'target' holds probabilities of one class, which is clear only where the classes are 0 and 1, not cat, dog, sea lion",
    )


@pytest.mark.parametrize(
    ("text", "messages"),
    [
        ("id,label\na,cat\nb,cat\nx,cat\ne,cat\n",
         ["line 4: 1 id is none of the 4 images: x", "has no row for 1 predicted image: test/c d.jpg"]),
        ("id,label\na,cat\nb,cat\nc d,cat\n", ["has no row for 1 predicted image: test/e.jpg"]),
        ("id,label\na,cat\nb,cat\nc d,cat\ne,cat\na,cat\n", ["lines 2, 6: a stands 2 times"]),
        ("id\na\n", ["has only the column id; ids and labels, or ids and probabilities, are expected"]),
        ("id,label\na,cat\nb,cow\nc d,cat\ne,cat\n", ["line 3: 'cow' is no class; classes are cat, dog, sea lion"]),
        ("id,cat,dog\na,0,0\nb,0,0\nc d,0,0\ne,0,0\n", ["has no column for 1 class: sea lion"]),
        ("id,cat,dog,lion,sea lion\n" + "".join(f"{i},0,0,0,0\n" for i in ("a", "b", "c d", "e")),
         ["column 'lion' is no class; classes are cat, dog, sea lion"]),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_said_before_anything_is_predicted(tmp_path, text, messages):
    assert list(refused(tmp_path, text)) == messages


def test_an_id_of_two_images_is_refused(tmp_path):
    path = tmp_path / "sample.csv"
    path.write_text("id,label\na,0\nb,1\n")
    with pytest.raises(UserError, match=r"the id a may be x/a\.jpg or y/a\.jpg"):
        read_sample(path, ["x/a.jpg", "y/a.jpg", "b.jpg"], ["0", "1"], {})


def test_nothing_is_changed_in_ids_that_a_spreadsheet_would_run(tmp_path):
    path = tmp_path / "sample.csv"
    path.write_text('id,label\n=1,cat\n"a, ""b""",cat\n')
    sample = read_sample(path, ["=1.jpg", 'a, "b".jpg'], NAMES, {})
    assert filled(sample, logits=LOGITS[:2])["id"].tolist() == ["=1", 'a, "b"']
