"""Open an `.onnx` file that `hw1 export` wrote as a classifier. No torch, whose import takes longer than the prediction."""

import json
from pathlib import Path

from hw1.config.recipe import TrainConfig
from hw1.errors import UserError
from hw1.evaluation.temperature import FittedTemperature, check_temperature
from hw1.predict.classifier import ONNX_MISSING, Classifier
from hw1.predict.export_checks import FOREIGN, check_descriptions, check_names, parse_rule
from hw1.utils.text import one_line


def open_onnx(path: Path, train: TrainConfig) -> Classifier:
    """Open an `.onnx` file; see `open_classifier`."""
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    try:
        import onnxruntime
    except ImportError:
        raise UserError(f"{path}: onnxruntime {ONNX_MISSING}") from None
    providers_of = {"cuda": ["CUDAExecutionProvider"], "cpu": ["CPUExecutionProvider"]}
    providers = providers_of.get(train.device, ["CUDAExecutionProvider", "CPUExecutionProvider"])
    providers = [name for name in providers if name in onnxruntime.get_available_providers()]
    if not providers:
        raise UserError(f"--device {train.device}: this onnxruntime computes on {', '.join(onnxruntime.get_available_providers())} only")
    try:
        session = onnxruntime.InferenceSession(path, providers=providers)
        meta = session.get_modelmeta().custom_metadata_map
        names, descriptions = check_names(json.loads(meta["class_names"])), check_descriptions(json.loads(meta["class_descriptions"]))
        fitted = FittedTemperature(check_temperature(float(meta["temperature"]))) if "temperature" in meta else None
        [image] = session.get_inputs()
        rule = parse_rule(json.loads(meta["resize"]) if "resize" in meta else {"size": image.shape[1]})  # files of before are squashed
        if rule.size != image.shape[1]:
            raise ValueError(f"resize to {rule.size}, but images of {image.shape[1]}")
    except Exception as error:  # onnxruntime's errors have no common base
        raise UserError(f"{path}: {FOREIGN} ({one_line(error)})") from None
    return Classifier(names, descriptions, rule, lambda images: session.run(["logits"], {image.name: images})[0], fitted)
