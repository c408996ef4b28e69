"""A run's model and images -> rows of the attention image."""

from collections.abc import Sequence
from typing import NoReturn

import numpy as np
import torch
from numpy.typing import NDArray

from hw1.attention.gradcam import cbam_gates, grad_cam, last_stage
from hw1.data.decode import BadImage
from hw1.data.image_set import ImageSet
from hw1.errors import RunError, UserError
from hw1.evaluation.predictor import Predictor
from hw1.models.preprocess import WithPreprocess
from hw1.plots import AttentionRow, Figure, plot_attention
from hw1.predict.classifier import class_names, read_words
from hw1.predict.image_batches import read_images


def attend(predictor: Predictor, pixels: NDArray[np.uint8], classes: NDArray[np.int64] | None = None) -> list[AttentionRow]:
    """A row for each of the images [B, S, S, 3], RGB: the evidence for its class of `classes` [B]; None takes the predicted ones.

    The title says which class that is, and its probability (0-1). FP32, whatever precision the run computes in. Raises UserError for a
    model without a feature map.
    """
    recipe, model = predictor.recipe, predictor.model.eval()
    last_stage(model)
    norm = WithPreprocess(model, recipe.aug.mean, recipe.aug.std, channels_last=recipe.train.channels_last).to(predictor.device)
    images = norm.normalise(torch.from_numpy(pixels).to(predictor.device))
    with torch.inference_mode():
        probabilities = model(images).softmax(1).cpu()
    chosen = probabilities.argmax(1) if classes is None else torch.from_numpy(classes)
    cams, gates = grad_cam(model, images, chosen.to(predictor.device)), cbam_gates(model, images)
    names = class_names(predictor)
    words = read_words(recipe.data.root, names)
    titles = [
        f"{words.get(names[label], names[label])} {probability:.0%}"
        for label, probability in zip(chosen.tolist(), probabilities.gather(1, chosen[:, None])[:, 0].tolist(), strict=True)
    ]
    return [
        AttentionRow(pixels[i], titles[i], cams[i], [(gate.stage, gate.channel[i], gate.spatial[i]) for gate in gates])
        for i in range(len(pixels))
    ]


def plot_attention_examples(predictor: Predictor, images: ImageSet, chosen: Sequence[int]) -> Figure | None:
    """The image for the `chosen` images of a set; None for a model without a feature map. Raises `RunError` for an unreadable file."""
    [batch] = read_images([images.image_file(i) for i in chosen], predictor.recipe.aug.size, len(chosen), _raise)
    try:
        return plot_attention(attend(predictor, batch.pixels))
    except UserError:
        return None


def _raise(error: BadImage) -> NoReturn:
    raise RunError(str(error))
