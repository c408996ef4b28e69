"""timm's scripts and ultralytics' command on the same images and model, unchanged: their output tells what they are at."""

import os
import sys
from pathlib import Path
from typing import Any

from benchmarks.startup.programs import BATCH, MODEL, SIZE, Program, variables
from benchmarks.startup.watch import FIRST_LINE, watch
from benchmarks.training.timm_script import find_script, version_of
from hw1.errors import UserError

ULTRALYTICS_MODEL = "nc: {num}\nbackbone:\n  - [-1, 1, TorchVision, [512, {model}, None, True, 2]]\nhead:\n  - [-1, 1, Classify, [nc]]\n"
"""torchvision's network up to its pooling, and ultralytics' own head."""


def timm_programs(work: Path, checkout: Path) -> tuple[Program, Program]:
    """Return train.py up to the line of its first update (it logs every one), and inference.py up to the results that it prints.

    What inference.py needs, a checkpoint, is made by train.py unless an earlier call has.
    """
    script, images, output = find_script(checkout), work / "images", work / "timm"
    num = len(list((images / "train").iterdir()))
    common: list[Any] = ["--model", MODEL, "--num-classes", num, "--img-size", SIZE, "--device", "cpu", "--workers", 1]
    words = [sys.executable, script, "--data-dir", images, "--train-split", "train", "--val-split", "val", *common]
    words += ["--batch-size", BATCH, "--epochs", 1, "--opt", "adamw", "--lr", 0.001, "--log-interval", 1, "--checkpoint-hist", 1]
    checkpoint = output / "small/last.pth.tar"
    if not checkpoint.is_file():
        watch(_texts([*words, "--output", output, "--experiment", "small"]), {}, folder=work, env=variables(work))
    train = _texts([*words, "--output", "{new}"])
    predict = [sys.executable, script.with_name("inference.py"), work / "one", "--split", "", *common, "--batch-size", 1]
    predict += ["--checkpoint", checkpoint, "--topk", 5, "--results-dir", "{new}"]
    return (
        Program("timm's train.py", train, {"line": FIRST_LINE, "step": rb"Train: 0 \[ +0/"}, stop_at="step", folder=work),
        Program("timm's inference.py", _texts(predict), {"line": FIRST_LINE, "prediction": rb"--result\s+\S"}, folder=work),
    )


def ultralytics_programs(work: Path, folder: Path) -> tuple[Program, Program]:
    """Return `yolo classify train` up to the first loss on its bar, shown once the optimizer has stepped, and `yolo classify predict`.

    On a CPU it loads images in its own process, whatever `workers` says. The weights to predict with are made unless an earlier call has.
    """
    yolo, images = folder / "bin/yolo", work / "images"
    if not yolo.is_file():
        raise UserError(
            f"--ultralytics: {folder}: no bin/yolo; pip install --no-deps --target {folder} ultralytics ultralytics-thop polars ..."
        )
    model = work / "resnet-cls.yaml"
    model.write_text(ULTRALYTICS_MODEL.format(num=len(list((images / "train").iterdir())), model=MODEL))
    common: list[Any] = [f"imgsz={SIZE}", "device=cpu"]
    words = [sys.executable, yolo, "classify", "train", f"model={model}", f"data={images}", "epochs=1", f"batch={BATCH}", *common]
    words += ["workers=1", "pretrained=False", "optimizer=AdamW", "exist_ok=True"]
    env = variables(work) | {"PYTHONPATH": str(folder)}
    weights = work / "ultralytics/small/weights/best.pt"
    if not weights.is_file():
        watch(_texts([*words, f"project={work / 'ultralytics'}", "name=small"]), {}, folder=work, env=env)
    train = _texts([*words, "project={new}"])
    predict = [
        sys.executable,
        yolo,
        "classify",
        "predict",
        f"model={weights}",
        f"source={work / 'one/photo.jpg'}",
        *common,
        "project={new}",
    ]
    given = (("PYTHONPATH", str(folder)),)
    steps = {"line": FIRST_LINE, "step": rb"1/1 +\S+G +\d"}
    return (
        Program("ultralytics' yolo classify train", train, steps, stop_at="step", folder=work, env=given),
        Program(
            "ultralytics' yolo classify predict", _texts(predict), {"line": FIRST_LINE, "prediction": rb"image 1/1"}, folder=work, env=given
        ),
    )


def versions(timm: Path | None, ultralytics: Path | None) -> dict[str, str | None]:
    """Return the versions of the peers, None for those that are left out."""
    found = [path.name.split("-")[1].removesuffix(".dist") for path in ultralytics.glob("ultralytics-*.dist-info")] if ultralytics else []
    return {"timm": version_of(find_script(timm)) if timm else None, "ultralytics": found[0] if found else None}


def _texts(words: list[Any]) -> list[str]:
    return [os.fspath(word) if isinstance(word, os.PathLike) else str(word) for word in words]
