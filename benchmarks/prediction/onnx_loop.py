"""Predict a folder with an `.onnx` file as a user would write it.

python -m benchmarks.prediction.onnx_loop MODEL FOLDER CSV BATCH FILTER
"""

import csv
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image


def main(model: str, folder: str, out: str, batch_size: int, interpolation: str) -> None:
    """Write name and index of the likeliest class of each image, which Pillow reads and resizes."""
    session = onnxruntime.InferenceSession(model)
    [input] = session.get_inputs()
    side, resampling = input.shape[1], Image.Resampling[interpolation.upper()]
    files = sorted(Path(folder).iterdir())
    with open(out, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "index"])
        for start in range(0, len(files), batch_size):
            batch = files[start : start + batch_size]
            pixels = np.stack([np.asarray(Image.open(path).convert("RGB").resize((side, side), resampling)) for path in batch])
            logits = session.run(["logits"], {input.name: pixels})[0]
            writer.writerows(zip([path.name for path in batch], logits.argmax(1).tolist(), strict=True))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), sys.argv[5])
