"""Export a model as an ONNX file: any number of images in, logits and probabilities out. Needs requirements-onnx.txt."""

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

from hw1.data.augment.eval_resize import EvalRule
from hw1.errors import RunError, UserError
from hw1.models.preprocess import WithPreprocess
from hw1.predict.classifier import ONNX_MISSING
from hw1.utils.text import one_line

PACKAGES = ("onnx", "onnxscript", "onnxruntime")
INPUT_DESCRIPTION = "RGB images, uint8 [batch, {size}, {size}, 3], {how}; normalisation is inside"
CALIBRATION_BATCH = 16


class _OnnxModel(nn.Module):
    """Computes both outputs of the ONNX file, which are FP32 whatever precision the model computes in."""

    def __init__(self, model: WithPreprocess, dtype: torch.dtype) -> None:
        super().__init__()
        self.with_preprocess, self.dtype = deepcopy(model), dtype
        self.with_preprocess.model.to(dtype)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        normalised = self.with_preprocess.normalise(image).to(self.dtype)
        logits = self.with_preprocess.model(normalised).to(torch.float32)
        return logits, torch.softmax(logits, dim=1)


def require_packages() -> None:
    """Raise `UserError` if a package of requirements-onnx.txt is missing."""
    if missing := [name for name in PACKAGES if importlib.util.find_spec(name) is None]:
        raise UserError(f"ONNX: {missing[0]} {ONNX_MISSING}")


def save_onnx(path: Path, model: WithPreprocess, size: int, meta: dict[str, str], *, half: bool = False) -> None:
    """Write a model as one ONNX file: input `image`, outputs `logits` and `probabilities` = softmax(logits).

    Args:
        path: The file.
        model: The model, on the CPU.
        size: Height and width of the images, pixels.
        meta: Metadata to store in the file.
        half: Whether weights and arithmetic are FP16.

    Raises:
        RunError: The model cannot be traced.
    """
    import onnx

    graph = _OnnxModel(model, torch.float16 if half else torch.float32).eval()
    example = torch.zeros(2, size, size, 3, dtype=torch.uint8)  # a single image would make the number of images a constant
    try:
        with _no_exporter_logs():
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
    except Exception as error:  # tracing a model with Python in its forward may raise anything
        raise RunError(f"ONNX: the model cannot be exported ({one_line(error)})") from error
    for part in (model_file.graph, *model_file.graph.node, *model_file.graph.value_info, *model_file.graph.initializer):
        part.ClearField("metadata_props")  # holds paths of this machine
    model_file.metadata_props.extend(onnx.StringStringEntryProto(key=key, value=value) for key, value in meta.items())
    onnx.save_model(model_file, path)


def quantize(path: Path, target: Path, images: NDArray[np.uint8]) -> None:
    """Quantize an ONNX file to INT8 weights (per channel) and activations.

    Args:
        path: The FP32 file.
        target: The file to write.
        images: Images that the ranges of the activations are measured on, uint8 [N, S, S, 3].
    """
    from onnxruntime import quantization

    class BatchReader(quantization.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.batches = iter(np.array_split(images, max(len(images) // CALIBRATION_BATCH, 1)))

        def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
            batch = next(self.batches, None)
            return None if batch is None else {"image": batch}

    with _no_exporter_logs(), tempfile.TemporaryDirectory(dir=target.parent) as folder:
        prepared = Path(folder) / "prepared.onnx"
        quantization.quant_pre_process(str(path), str(prepared), skip_symbolic_shape=True)
        quantization.quantize_static(
            str(prepared),
            str(target),
            BatchReader(),
            op_types_to_quantize=["Conv", "Gemm", "MatMul", "Add", "Relu", "MaxPool"],
            per_channel=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
        )


def metadata(names: Sequence[str], descriptions: dict[str, str], rule: EvalRule, temperature: float | None) -> dict[str, str]:
    """Return the metadata of an ONNX file, which `hw1.predict` reads back.

    Args:
        names: Name of each class.
        descriptions: What people call the classes, by their names.
        rule: How an image becomes a square of the model's size.
        temperature: The fitted temperature, which nothing in the file applies; None if there is none to offer.
    """
    meta = {
        "class_names": json.dumps(list(names)),
        "class_descriptions": json.dumps(descriptions),
        "image": INPUT_DESCRIPTION.format(size=rule.size, how=rule.describe()),
        "resize": json.dumps(rule._asdict()),
    }
    return meta if temperature is None else {**meta, "temperature": str(temperature)}


@contextlib.contextmanager
def _no_exporter_logs() -> Iterator[None]:
    """Suppress the exporters' warnings, which are meant for their developers."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
