"""What trackers show of a run beside its numbers: training images, figures and tables of validation, CBAM maps, and its files."""

import csv
import io
from collections.abc import Mapping
from itertools import repeat
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from hw1.data.augment.eval_resize import EvalRule
from hw1.data.image_set import TrainingData
from hw1.data.image_source import FileSource
from hw1.evaluation.predictions import load_predictions
from hw1.evaluation.report.analysis import analyse
from hw1.evaluation.report.media import figures, tables, to_image
from hw1.models.cbam import Cbam
from hw1.models.cbam_gates import cbam_gates
from hw1.models.preprocess import WithPreprocess
from hw1.plots import AttentionRow, plot_attention
from hw1.runs.checkpoint import load_weights
from hw1.runs.folder import RunFolder
from hw1.tracking.tracker import At, FileSet, Trackers
from hw1.training.train_state import TrainState

NUM_CBAM_IMAGES = 4


class Media:
    """Pictures, tables and files of a run, for its trackers.

    Args:
        run: The run folder.
        state: The run's state; its weights are read only.
        data: The run's data.
    """

    def __init__(self, run: RunFolder, state: TrainState, data: TrainingData) -> None:
        self.run, self.state, self.data = run, state, data
        self.upload = state.recipe.log.upload

    def send_samples(self, trackers: Trackers) -> None:
        """Send the figure of the first training images."""
        if "images" in self.upload:
            trackers.images({"samples": Image.open(self.run.samples)}, At(0, 0))

    def send_validation(self, trackers: Trackers, at: At) -> None:
        """Send what the predictions of the last validation say, and the CBAM maps of some of its images."""
        predictions, files, names = load_predictions(self.run.val_predictions)
        analysis = analyse(predictions.logits, predictions.labels, files, names, {})
        images = figures(analysis, predictions.logits, "val")
        if "images" in self.upload:
            images |= self._cbam_maps()
        trackers.images(images, at)
        trackers.tables(tables(analysis, self.data.val if "images" in self.upload else None, "val"), at)

    def send_data(self, trackers: Trackers) -> None:
        """Send the list of the data's files with their digests, and where they are."""
        if "model" not in self.upload:
            return
        listed = io.StringIO()
        writer = csv.writer(listed, lineterminator="\n")
        writer.writerow(("split", "label", "digest", "file"))
        for split, images, digests in zip(("train", "val"), (self.data.train, self.data.val), self.data.digests, strict=True):
            assert images.labels is not None
            writer.writerows(zip(repeat(split), images.labels.tolist(), digests, images.files, strict=False))
        roots = {images.root.name: images.root.absolute().as_uri() for images in (self.data.train, self.data.val) if images.archive is None}
        metadata = {"fingerprint": self.data.fingerprint, "num_train": len(self.data.train), "num_val": len(self.data.val)}
        files = {"files.csv": listed.getvalue().encode(errors="surrogateescape")}
        trackers.files(FileSet(f"data-{self.data.fingerprint[:12]}", "dataset", files, metadata, references=roots))

    def send_model(self, trackers: Trackers) -> None:
        """Send the weights of the best epoch, where there are any."""
        if "model" not in self.upload or not self.run.best.is_file():
            return
        recipe, meta = self.state.recipe, load_weights(self.run.best)[1]
        metadata: Mapping[str, Any] = {
            "metrics": {key: meta[key] for key in ("epoch", "val_top1", "val_loss")},
            "classes": meta["classes"],
            "preprocessing": {**recipe.aug.model_dump(mode="json", include=set(PREPROCESSING)), "in_chans": recipe.model.in_chans},
            "data_fingerprint": self.data.fingerprint,
            "recipe": recipe.model_dump(mode="json"),
        }
        aliases = ["best", "last"] if meta["epoch"] == self.state.progress.epoch else ["best"]
        name = f"{recipe.run.name}-seed{recipe.seed}"
        trackers.files(FileSet(name, "model", {self.run.best.name: self.run.best}, metadata, aliases))

    def _cbam_maps(self) -> dict[str, Image.Image]:
        """Draw the gates of the CBAMs for an image of each of the first classes; none for a model without them. Changes no weight."""
        recipe, aug, model = self.state.recipe, self.state.recipe.aug, self.state.evaluated
        if not any(isinstance(module, Cbam) for module in model.modules()):
            return {}
        assert self.data.val.labels is not None
        _, indices = np.unique(self.data.val.labels, return_index=True)
        source, rule = FileSource(self.data.val), EvalRule.of(aug)
        pixels = np.stack([rule(source.read(int(i))) for i in indices[:NUM_CBAM_IMAGES]])
        channels = recipe.model.in_chans
        preprocess = WithPreprocess(nn.Identity(), aug.mean[:channels], aug.std[:channels], channels_last=recipe.train.channels_last)
        gates = cbam_gates(model, preprocess.normalise(torch.from_numpy(pixels)).to(self.state.device))
        rows = [
            AttentionRow(
                image=pixels[i],
                file=self.data.val.files[index],
                title=self.data.classes.names[self.data.val.labels[index]],
                cam=None,
                cam_size=(0, 0),
                gates=[(gate.stage, gate.channel[i], gate.spatial[i]) for gate in gates],
            )
            for i, index in enumerate(indices[:NUM_CBAM_IMAGES])
        ]
        return {"val/cbam": to_image(plot_attention(rows))}


PREPROCESSING = ("size", "fit", "crop_pct", "interpolation", "mean", "std")
"""Keys of `aug` that make an image the model's input."""
