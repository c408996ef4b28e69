"""Predictions of unlabelled images as a submission: prediction.csv and submission.zip."""

import csv
import io
import zipfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hw1.data.image_set import ClassMap, ImageSet
from hw1.errors import UserError
from hw1.evaluation.calibration import confidences, scale
from hw1.evaluation.predictions import Predictions
from hw1.utils.files import write_atomic
from hw1.utils.text import to_bytes


def check_names(images: ImageSet, *, full_names: bool) -> list[str]:
    """The `image_name` of each image: its stem, or with `full_names` the whole name, of an archive's member with its path.

    Raises `UserError` listing every name that two images share: a submission could not tell them apart.
    """
    names = [file if full_names else Path(file).stem for file in images.files]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        shared = {name: [file for file, own in zip(images.files, names, strict=True) if own == name] for name in twice}
        raise UserError(
            *(f"{images.root}: {' and '.join(files)} share the name {name!r}" for name, files in shared.items()),
            f"{images.root}: --full-names keeps the extension in image_name",
        )
    return names


def save_submission(folder: Path, names: Sequence[str], predictions: Predictions, classes: ClassMap, temperature: float) -> None:
    """Writes `prediction.csv` (header `image_name,pred_label`, a row per image), `submission.zip`, which holds it, and `confidence.csv`,
    the same rows with the confidence (0-1) at this temperature.

    The label is the class folder's own name, never its position in a listing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    labels = [classes.names[label] or str(label) for label in predictions.logits.argmax(1)]
    confidence = confidences(scale(predictions.logits, temperature)).tolist()
    rows = list(zip(names, labels, confidence, strict=True))
    write_atomic(folder / "confidence.csv", _csv(["image_name", "pred_label", "confidence"], rows))
    content = _csv(["image_name", "pred_label"], list(zip(names, labels, strict=True)))
    write_atomic(folder / "prediction.csv", content)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo("prediction.csv"), content, zipfile.ZIP_DEFLATED)  # a fixed date: same run, same bytes
    write_atomic(folder / "submission.zip", packed.getvalue())


def _csv(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return to_bytes(text.getvalue())
