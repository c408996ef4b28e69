"""Open a page that classifies the images dropped on it: classes, confidences and, but for an .onnx file, where the model looked."""

import argparse
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hw1.config.recipe import TrainConfig
from hw1.errors import UserError, collect_as_usual
from hw1.evaluation.temperature import choose_temperature
from hw1.predict.options import add_model_options, parse_model_options
from hw1.utils.console import show

if TYPE_CHECKING:
    from hw1.predict.classifier import Classifier

PORT = 7860
SMALLEST_SIDE = 384  # pixels: a smaller attention map is drawn larger
Answer = tuple[dict[str, float], NDArray[np.uint8] | None]
"""Confidence of each of the likeliest classes, 0-1; and Grad-CAM over the image, None where the model has no feature map."""


def parse(argv: Sequence[str], prog: str | None = None) -> argparse.Namespace:
    """Parse the command line of the program `prog`, by default the running one.

    Raises:
        UserError: An option has a wrong value.
    """
    parser = argparse.ArgumentParser(prog, description=__doc__, epilog="needs pip install -r requirements-demo.txt; ended by Ctrl-C")
    add_model_options(parser)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on; 0.0.0.0 lets the whole network in (default: 127.0.0.1)")
    parser.add_argument("--port", type=int, default=PORT, help=f"port to listen on; 0 takes any that is free (default: {PORT})")
    args = parse_model_options(parser, argv)
    if not 0 <= args.port < 65536:
        raise UserError(f"--port: must be within 0 ... 65535, got {args.port}")
    return args


def main(argv: Sequence[str], prog: str | None = None) -> None:
    """Carry out the command: serve until it is interrupted."""
    args = parse(argv, prog)
    os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_DISABLE_TELEMETRY": "1"}  # before the import: nobody is told of it
    try:
        import gradio
    except ImportError:
        raise UserError("gradio is not installed; pip install -r requirements-demo.txt") from None

    from hw1.predict.open_classifier import open_classifier  # takes seconds to import: only once the arguments are right

    classifier = open_classifier(args.model, args.checkpoint, TrainConfig(device=args.device))
    temperature = choose_temperature(args.temperature, classifier.fitted)
    page = build_page(gradio, classifier, temperature, args.top, str(args.model))
    try:
        _, url, _ = page.launch(
            server_name=args.host,
            server_port=args.port or None,
            footer_links=[],
            share=False,
            run_history=False,
            ssr_mode=False,
            quiet=True,
            prevent_thread_lock=True,
        )
    except OSError:
        raise UserError(f"--port: {args.port} is taken; --port 0 takes one that is free") from None
    collect_as_usual()
    show(f"{args.model}: open {url}; Ctrl-C ends it")
    try:
        threading.Event().wait()
    finally:
        page.close()


def build_page(gradio: Any, classifier: "Classifier", temperature: float, top: int, title: str) -> Any:
    """Build the page.

    Args:
        gradio: The package.
        classifier: The model.
        temperature: Divides the logits.
        top: How many classes are shown.
        title: Of the page.
    """

    def classify(file: str | None) -> Any:
        if file is None:
            return None, None
        try:
            return answer(classifier, Path(file), temperature, top)
        except UserError as error:
            raise gradio.Error(str(error)) from None

    with gradio.Blocks(title=f"hw1: {title}", analytics_enabled=False) as page:
        gradio.Markdown(f"# {title}\n{len(classifier.class_names)} classes. Drop an image; it stays on this machine.")
        with gradio.Row():
            image = gradio.Image(type="filepath", image_mode=None, sources=["upload", "clipboard"], label="Image")
            with gradio.Column():
                classes = gradio.Label(num_top_classes=top, label="Classes")
                map_ = gradio.Image(
                    label="Attention: the evidence for the first class (Grad-CAM)",
                    visible=classifier.model is not None,
                    buttons=["download", "fullscreen"],  # and none that shares it on the internet
                )
        image.change(classify, image, [classes, map_], show_progress="minimal")
    return page


def answer(classifier: "Classifier", file: Path, temperature: float, top: int) -> Answer:
    """Classify a file.

    Raises:
        UserError: It cannot be read.
    """
    from hw1.data.decode import BadImage, read_image
    from hw1.predict.top_k import likeliest_classes

    try:
        square = classifier.rule(read_image(file))
    except BadImage as error:
        raise UserError(error.reason) from None
    [likeliest] = likeliest_classes(classifier, square[None], temperature, top, [file.name])
    return {each.description: each.probability for each in likeliest}, attention(classifier, square, likeliest[0].label)


def attention(classifier: "Classifier", square: NDArray[np.uint8], label: str) -> NDArray[np.uint8] | None:
    """Draw where in an image of the model's size the evidence for a class lies; None for a model without a feature map."""
    if classifier.model is None:
        return None
    import torch

    from hw1.attention.gradcam import grad_cam
    from hw1.plots import overlay

    model = classifier.model
    pixels = torch.from_numpy(square[None]).to(model.mean.device)
    try:
        cam = grad_cam(model.model, model.normalise(pixels), torch.tensor([classifier.class_names.index(label)]).to(pixels.device))
    except UserError:
        return None
    drawn = overlay(square, cam.maps[0])
    factor = -(-SMALLEST_SIDE // drawn.shape[0])
    return drawn.repeat(factor, axis=0).repeat(factor, axis=1)
