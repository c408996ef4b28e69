"""The predictions of unlabelled images as a submission: prediction.csv and submission.zip."""

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
from hw1.utils.text import csv_cell, to_bytes


def check_names(images: ImageSet, *, full_names: bool) -> list[str]:
    """Return the `image_name` of each image, and check that all differ.

    Args:
        images: The images.
        full_names: Keep the whole name, with its path inside an archive; else the stem alone.

    Raises:
        UserError: Images share a name, so that a submission would be ambiguous; every such name is listed.
    """
    names = [file if full_names else Path(file).stem for file in images.files]
    duplicates = [name for name, count in Counter(names).items() if count > 1]
    if duplicates:
        files_of = {name: [file for file, other in zip(images.files, names, strict=True) if other == name] for name in duplicates}
        raise UserError(
            *(f"{images.root}: {' and '.join(files)} share the name {name!r}" for name, files in files_of.items()),
            f"{images.root}: --full-names keeps the extension in image_name",
        )
    return names


def submission_files(names: Sequence[str], predictions: Predictions, classes: ClassMap, temperature: float) -> dict[str, bytes]:
    """Return `prediction.csv`, `submission.zip`, which holds it, and `confidence.csv`, by name.

    `prediction.csv` has the header `image_name,pred_label` and a row per image; `confidence.csv` has the same rows with the confidence
    (0-1). A label is the name of the class folder, never its position in a listing.

    Args:
        names: `image_name` of each image, [N].
        predictions: The predictions, of N images.
        classes: The classes.
        temperature: What the logits are divided by for the confidences.
    """
    labels = [classes.names[label] or str(label) for label in predictions.logits.argmax(1)]
    confidence = confidences(scale(predictions.logits, temperature)).tolist()
    content = _csv(["image_name", "pred_label"], list(zip(names, labels, strict=True)))
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo("prediction.csv"), content, zipfile.ZIP_DEFLATED)  # a fixed date: same run, same bytes
    with_confidence = _csv(["image_name", "pred_label", "confidence"], list(zip(names, labels, confidence, strict=True)))
    return {"prediction.csv": content, "submission.zip": zipped.getvalue(), "confidence.csv": with_confidence}


def _csv(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(map(csv_cell, row) for row in rows)
    return to_bytes(text.getvalue())
