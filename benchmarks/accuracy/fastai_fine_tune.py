"""fastai's `fine_tune` on a folder of photographs, as its users call it: python -m benchmarks.accuracy.fastai_fine_tune, from `peers` only.

fastai is no requirement of this project: it is imported from wherever the user has it.
"""

import json
import sys
from pathlib import Path
from typing import Any

BIGGER = 1.5
"""fastai's presizing: images are squashed to this many times the size, and cropped from that on the way to it."""


def main(argv: list[str]) -> None:
    """Train and write `{"top1": ..., "num_right": ..., "num_val": ...}` of the last epoch.

    Args:
        argv: Folder with train/ and val/, model, file of weights, image size, epochs after the head's own, seed, file to write.
    """
    from fastai.vision import all as fv

    root, name, weights, size, epochs, seed, target = argv
    fv.set_seed(int(seed), reproducible=False)
    loaders = fv.ImageDataLoaders.from_folder(
        Path(root), train="train", valid="val",
        item_tfms=fv.Resize(round(BIGGER * int(size)), method=fv.ResizeMethod.Squish),
        batch_tfms=fv.aug_transforms(size=int(size), min_scale=0.75),
    )  # fmt: skip
    learner: Any = fv.vision_learner(loaders, name, metrics=fv.accuracy, pretrained_cfg_overlay={"file": weights})
    learner.fine_tune(int(epochs))
    probabilities, labels = learner.get_preds()
    right = int((probabilities.argmax(1) == labels).sum())
    Path(target).write_text(json.dumps({"top1": right / len(labels), "num_right": right, "num_val": len(labels)}))


if __name__ == "__main__":
    main(sys.argv[1:])
