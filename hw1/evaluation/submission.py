"""Write the predictions of unlabelled images as a submission: prediction.csv and submission.zip."""

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


def save_submission(folder: Path, names: Sequence[str], predictions: Predictions, classes: ClassMap, temperature: float) -> None:
    """Write `prediction.csv`, `submission.zip`, which holds it, and `confidence.csv` into a folder.

    `prediction.csv` has the header `image_name,pred_label` and a row per image; `confidence.csv` has the same rows with the confidence
    (0-1). A label is the name of the class folder, never its position in a listing.

    Args:
        folder: Where to write.
        names: `image_name` of each image, [N].
        predictions: The predictions, of N images.
        classes: The classes.
        temperature: What the logits are divided by for the confidences.
    """
    folder.mkdir(parents=True, exist_ok=True)
    labels = [classes.names[label] or str(label) for label in predictions.logits.argmax(1)]
    confidence = confidences(scale(predictions.logits, temperature)).tolist()
    rows = list(zip(names, labels, confidence, strict=True))
    write_atomic(folder / "confidence.csv", _csv(["image_name", "pred_label", "confidence"], rows))
    content = _csv(["image_name", "pred_label"], list(zip(names, labels, strict=True)))
    write_atomic(folder / "prediction.csv", content)
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo("prediction.csv"), content, zipfile.ZIP_DEFLATED)  # a fixed date: same run, same bytes
    write_atomic(folder / "submission.zip", zipped.getvalue())


def _csv(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return to_bytes(text.getvalue())
