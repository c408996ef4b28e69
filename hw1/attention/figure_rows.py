"""Make the rows of the attention figure from a run's model and images."""

from collections.abc import Sequence
from typing import NoReturn

import numpy as np
import torch
from numpy.typing import NDArray

from hw1.attention.gradcam import grad_cam, map_module
from hw1.data.augment.eval_resize import EvalRule
from hw1.data.decode import BadImage
from hw1.data.image_set import ImageSet
from hw1.errors import RunError, UserError
from hw1.evaluation.predictor import Predictor
from hw1.models.cbam_gates import cbam_gates
from hw1.plots import AttentionRow, Figure, plot_attention
from hw1.predict.classifier import class_names, read_class_descriptions
from hw1.predict.image_batches import read_images


def attention_rows(
    predictor: Predictor,
    pixels: NDArray[np.uint8],
    files: Sequence[str],
    classes: NDArray[np.int64] | None = None,
    temperature: float = 1.0,
) -> list[AttentionRow]:
    """Compute Grad-CAM and CBAM gates of images, in FP32 whatever precision the run computes in.

    Args:
        predictor: The model.
        pixels: Images of the model's size, uint8 [B, S, S, 3], RGB.
        files: Name of each image, [B].
        classes: The class of each image whose evidence is located, [B]; None takes the predicted ones.
        temperature: What the logits are divided by for the probabilities.

    Returns:
        A row per image; its title names the class and its probability.

    Raises:
        UserError: The model has no feature map.
    """
    recipe, model = predictor.recipe, predictor.model.eval()
    map_module(model)
    preprocess = predictor.with_preprocess().to(predictor.device)
    images = preprocess.normalise(torch.from_numpy(pixels).to(predictor.device))
    with torch.inference_mode():
        probabilities = (model(images) / temperature).softmax(1).cpu()
    labels = probabilities.argmax(1) if classes is None else torch.from_numpy(classes)
    cams, gates = grad_cam(model, images, labels.to(predictor.device)), cbam_gates(model, images)
    names = class_names(predictor)
    descriptions = read_class_descriptions(recipe.data.root, names)
    titles = [
        f"{descriptions.get(names[label], names[label])} {probability:.0%}"
        for label, probability in zip(labels.tolist(), probabilities.gather(1, labels[:, None])[:, 0].tolist(), strict=True)
    ]
    return [
        AttentionRow(
            pixels[i], files[i], titles[i], cams.maps[i], cams.size, [(gate.stage, gate.channel[i], gate.spatial[i]) for gate in gates]
        )
        for i in range(len(pixels))
    ]


def plot_attention_examples(predictor: Predictor, images: ImageSet, indices: Sequence[int], temperature: float = 1.0) -> Figure | None:
    """Plot the attention figure for some images of a set.

    Args:
        predictor: The model.
        images: The set.
        indices: Positions of the images in the set.
        temperature: What the logits are divided by for the probabilities.

    Returns:
        The figure; None for a model without a feature map.

    Raises:
        RunError: An image cannot be read.
    """
    [batch] = read_images([images.image_file(i) for i in indices], EvalRule.of(predictor.recipe.aug), len(indices), _raise)
    try:
        return plot_attention(attention_rows(predictor, batch.pixels, [images.files[i] for i in indices], temperature=temperature))
    except UserError:
        return None


def _raise(error: BadImage) -> NoReturn:
    raise RunError(str(error))
