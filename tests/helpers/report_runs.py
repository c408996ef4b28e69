"""Write run folders as training leaves them, without training: the recipes are real, the predictions are drawn at random."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from helpers.paths import ROOT
from hw1.config.load import dump_recipe, load_recipe
from hw1.evaluation.metrics import summarize
from hw1.runs.folder import RunFolder

NUM_CLASSES = 10


def write_run(
    root: Path,
    variant: str,
    seed: int,
    accuracy: float = 0.7,
    *,
    overrides: tuple[str, ...] = (),
    epochs: int = 4,
    num_images: int = 300,
    classes: int = NUM_CLASSES,
    finished: bool = True,
    env: dict[str, Any] | None = None,
) -> Path:
    """Write `root/<variant>/seed<seed>/` of a run whose last epoch is right on about `accuracy` of the images.

    Each image has a difficulty, so that runs agree on most images as real ones do. `env` is merged into env.json; a variant without a
    recipe takes base.yaml.
    """
    file = ROOT / f"recipes/ablations/{variant}.yaml"
    more = [f"run.dir={root}", f"run.name={variant}", f"seed={seed}", f"train.epochs={epochs}", "data.root=photos", *overrides]
    recipe = load_recipe(file if file.is_file() else ROOT / "recipes/base.yaml", more)
    run = RunFolder.of(recipe)
    run.path.mkdir(parents=True)
    run.config.write_text(dump_recipe(recipe))
    run.write_json(run.env, environment(num_images) | (env or {}))

    rng = np.random.default_rng([seed, *variant.encode()])
    difficulty = np.random.default_rng(0).permutation(num_images) / num_images
    labels = np.arange(num_images, dtype=np.int64) % classes
    rows = []
    for epoch in range(1, (epochs if finished else epochs - 1) + 1):
        skill = accuracy * (1 - 0.6**epoch) / (1 - 0.6**epochs)
        is_right = difficulty + rng.normal(0, 0.05, num_images) < skill
        logits = rng.normal(0, 1, (num_images, classes)).astype(np.float32)
        logits[np.arange(num_images), np.where(is_right, labels, (labels + 1) % classes)] += 8
        rows.append(epoch_row(epoch, summarize(logits, labels), skill))
    run.write_metrics(rows)
    files = [f"val/{label}/{i:04}.jpg" for i, label in enumerate(labels)]
    names = [str(c) for c in range(classes)]
    np.savez(
        run.val_predictions, index=np.arange(num_images), logits=logits, labels=labels, files=np.array(files), class_names=np.array(names)
    )
    if finished:
        run.write_json(run.summary, {"epochs": epochs, "stopped_early": False, "best_top1": max(row["val_top1"] for row in rows)})
    return run.path


def epoch_row(epoch: int, val: dict[str, Any], skill: float) -> dict[str, Any]:
    return {
        "epoch": epoch,
        "train_loss": 4.6 * (1 - skill) + 0.1,
        "train_acc": skill,
        "val_loss": val["loss"],
        "val_top1": val["top1"],
        "val_top5": val["top5"],
        "lr": 1e-4,
        "images_per_second": 100.0 + epoch,
        "seconds": 30.0,
    }


def environment(num_images: int) -> dict[str, Any]:
    return {
        "started": "2026-11-20T10:00:00+00:00",
        "hw1": "0.1.0",
        "git": {"commit": "0123456789abcdef0123456789abcdef01234567", "modified": False},
        "packages": {"torch": "2.10.0", "timm": "1.0.31"},
        "device": "cpu",
        "cpu": "Some CPU",
        "cpu_count": 2,
        "num_train": 2000,
        "num_val": num_images,
        "num_classes": NUM_CLASSES,
        "fingerprint": "ab" * 32,
    }


ACCURACIES = {"plain": 0.73, "mixup": 0.71, "mixup_cbam": 0.55, "mixup_cbam_dropout": 0.55, "random_mixup": 0.64}


def write_ablation(root: Path, seeds: tuple[int, ...] = (0, 1, 2)) -> None:
    """Write the report's five variants: Mixup costs a little, CBAM much, dropout nothing, random Mixup gains."""
    for seed in seeds:
        for variant, accuracy in ACCURACIES.items():
            write_run(root, variant, seed, accuracy + 0.004 * seed)


def edit_json(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
