"""A model as an ONNX file: images in, logits and probabilities out, any number at a time. Needs requirements-onnx.txt."""

import contextlib
import importlib.util
import json
import logging
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from copy import deepcopy
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hw1.errors import RunError, UserError
from hw1.models.preprocess import WithPreprocess
from hw1.predict.classifier import ONNX_MISSING
from hw1.utils.text import one_line

PACKAGES = ("onnx", "onnxscript", "onnxruntime")
INPUT = "RGB images, uint8 [batch, {size}, {size}, 3], resized to {size} x {size} (bilinear, antialiased); normalisation is inside"
CALIBRATION_BATCH = 16


class _Graph(nn.Module):
    """FromPixels with both outputs of the ONNX file, which are FP32 whatever the model computes in."""

    def __init__(self, pixels: WithPreprocess, temperature: float, dtype: torch.dtype) -> None:
        super().__init__()
        self.pixels, self.temperature, self.dtype = deepcopy(pixels), temperature, dtype
        self.pixels.model.to(dtype)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.pixels.model(self.pixels.normalise(image).to(self.dtype)).to(torch.float32)
        return logits, torch.softmax(logits / self.temperature, dim=1)


def require_packages() -> None:
    """Raises UserError where a package of requirements-onnx.txt is missing."""
    if missing := [name for name in PACKAGES if importlib.util.find_spec(name) is None]:
        raise UserError(f"ONNX: {missing[0]} {ONNX_MISSING}")


def save_onnx(
    path: Path, pixels: WithPreprocess, size: int, temperature: float | None, meta: dict[str, str], *, half: bool = False
) -> None:
    """Writes the model as one file with its metadata inside; with `half` its weights and arithmetic are FP16.

    `pixels` is on the CPU. Input `image`, outputs `logits` and `probabilities` = softmax(logits / temperature). Raises RunError where the
    model cannot be traced.
    """
    import onnx

    graph = _Graph(pixels, temperature or 1.0, torch.float16 if half else torch.float32).eval()
    example = torch.zeros(2, size, size, 3, dtype=torch.uint8)  # of 1, the number of images would be taken for a constant
    try:
        with _quiet():
            program = torch.onnx.export(
                graph,
                (example,),
                dynamo=True,
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                input_names=["image"],
                output_names=["logits", "probabilities"],
                verbose=False,
            )
            assert program is not None
            model_file = program.model_proto
    except Exception as error:  # tracing may fail in any way on a model with Python in its forward
        raise RunError(f"ONNX: the model cannot be exported ({one_line(error)})") from error
    for part in (model_file.graph, *model_file.graph.node, *model_file.graph.value_info, *model_file.graph.initializer):
        part.ClearField("metadata_props")  # where in which file of this machine each operation was written
    model_file.metadata_props.extend(onnx.StringStringEntryProto(key=key, value=value) for key, value in meta.items())
    onnx.save_model(model_file, path)


def quantize(path: Path, target: Path, pixels: NDArray[np.uint8]) -> None:
    """Writes the model of `path` with INT8 weights (per channel) and activations, whose ranges are those seen on `pixels` [N, S, S, 3]."""
    from onnxruntime import quantization

    class Reader(quantization.CalibrationDataReader):
        def __init__(self) -> None:
            self.parts = iter(np.array_split(pixels, max(len(pixels) // CALIBRATION_BATCH, 1)))

        def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
            part = next(self.parts, None)
            return None if part is None else {"image": part}

    with _quiet(), tempfile.TemporaryDirectory(dir=target.parent) as folder:
        prepared = Path(folder) / "prepared.onnx"
        quantization.quant_pre_process(str(path), str(prepared), skip_symbolic_shape=True)
        quantization.quantize_static(
            str(prepared),
            str(target),
            Reader(),
            op_types_to_quantize=["Conv", "Gemm", "MatMul", "Add", "Relu", "MaxPool"],
            per_channel=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
        )


def metadata(names: Sequence[str], words: dict[str, str], size: int, temperature: float | None) -> dict[str, str]:
    """What an ONNX file says of itself, as `hw1.predict` reads it back."""
    meta = {"class_names": json.dumps(list(names)), "class_descriptions": json.dumps(words), "image": INPUT.format(size=size)}
    return meta if temperature is None else {**meta, "temperature": str(temperature)}


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporters' remarks to their own developers."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
