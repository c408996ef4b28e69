"""Write the model card in Markdown. Every number is read from the run folder; what is not there is left out."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hw1.config.load import dump_recipe
from hw1.config.recipe import Recipe
from hw1.data.augment.eval_resize import EvalRule
from hw1.errors import UserError
from hw1.evaluation.predictor import Predictor
from hw1.html.table import escape_markdown
from hw1.runs.folder import RunFolder

HEAD = """---
pipeline_tag: image-classification
library_name: timm
license: unknown
tags: [image-classification, timm]
---
"""
USAGE = """## Open it

```python
import timm, torch
import hw1.models  # `pip install .` in a checkout of hw1; registers the model's name with timm
from PIL import Image

model = timm.create_model("local-dir:{folder}", pretrained=True).eval()
transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
image = transform(Image.open("image.jpg").convert("{mode}"))[None]  # {how}, normalised
probabilities = torch.softmax(model(image), dim=1)[0]
print(model.pretrained_cfg["label_names"][probabilities.argmax()])
```

Or without writing any code: `hw1 predict {folder} image.jpg`.
"""
ONNX_USAGE = """The ONNX files need neither torch nor timm. Input `image`: uint8 `[batch, {size}, {size}, 3]`, RGB,
{how}; normalisation is inside. Outputs: `logits` and `probabilities`. The metadata hold the class names.

```python
import json, numpy, onnxruntime
from PIL import Image

session = onnxruntime.InferenceSession("model.onnx")
image = numpy.array({image})
[probabilities] = session.run(["probabilities"], {{"image": image[None]}})
print(json.loads(session.get_modelmeta().custom_metadata_map["class_names"])[probabilities[0].argmax()])
```
"""
CONFIDENCE = """## Confidence

Logits divided by {:.4f}, a temperature fitted on the validation split, give truer probabilities of images that it was not fitted on. All
probabilities above are without it; `hw1 predict . image.jpg --temperature fitted` applies it.
"""
METRICS = {"top1": "top-1 accuracy", "top5": "top-5 accuracy", "loss": "cross-entropy, nats"}


def model_card(run: RunFolder, predictor: Predictor, descriptions: dict[str, str], temperature: float | None, onnx: Sequence[str]) -> str:
    """Return the `README.md` of an exported folder.

    Args:
        run: The run's folder.
        predictor: The exported model.
        descriptions: What people call the classes, by their names.
        temperature: The fitted temperature; None if there is none to offer.
        onnx: Lines of the comparison of the ONNX files with torch; empty if there are no ONNX files.

    Raises:
        UserError: A file of the run is damaged.
    """
    recipe, env = run.read_recipe(), _read_json(run.env)
    names = [escape_markdown(descriptions.get(name, name)) for name in predictor.classes.names if name]
    shown = ", ".join(names[:10]) + f", ... ({len(names)} in all; `label_names` in config.json)" * (len(names) > 10)
    facts, rule = predictor.facts, EvalRule.of(recipe.aug)
    mode = "L" if recipe.model.in_chans == 1 else "RGB"
    parts = [
        HEAD,
        f"# {escape_markdown(str(recipe.run.name))}\n",
        f"An image classifier: {recipe.model.name}, {recipe.aug.size} x {recipe.aug.size} pixels, {len(predictor.classes.names)} classes;"
        f" the {facts['checkpoint']} weights of seed {recipe.seed}, after epoch {facts['epoch']} of {run.planned_epochs(recipe)}.\n",
        f"Classes: {shown}.\n",
        _metrics_table(run, facts),
        USAGE.format(folder=".", mode=mode, how=rule.describe()),
    ]
    if onnx:
        parts += [ONNX_USAGE.format(size=rule.size, how=rule.describe(), image=_resize_in_pillow(rule)), "\n".join(onnx) + "\n"]
    if temperature is not None:
        parts.append(CONFIDENCE.format(temperature))
    parts += [_made_from(recipe, env), _recipe(recipe), _licence(recipe)]
    return "\n".join(parts)


def _resize_in_pillow(rule: EvalRule) -> str:
    """Return the Python that makes the square of an image with Pillow alone."""
    opened, pillow = 'Image.open("image.jpg").convert("RGB")', f"Image.Resampling.{rule.interpolation.upper()}"
    if rule == EvalRule(rule.size, interpolation=rule.interpolation):
        return f"{opened}.resize(({rule.size}, {rule.size}), {pillow})"
    return f"make_square({opened})  # which is yours to write: {rule.describe()}"


def _metrics_table(run: RunFolder, facts: dict[str, Any]) -> str:
    """Tabulate the metrics of these weights in each evaluation of the run folder; without one of val, those that training measured."""
    rows = []
    for path in sorted(run.path.glob("eval/*/metrics.json")):
        metrics = _read_json(path)
        if all(metrics.get(key) == value for key, value in facts.items()):
            rows += [(path.parent.name, title, metrics, name) for name, title in METRICS.items() if name in metrics]
    if not any(split == "val" for split, *_ in rows) and facts["checkpoint"] == "best":
        epoch: dict[str, Any] = next((dict(row) for row in run.read_metrics() if row["epoch"] == facts["epoch"]), {})
        metrics = {name: epoch[f"val_{name}"] for name in METRICS if f"val_{name}" in epoch}
        rows = [("val", title, metrics, name) for name, title in METRICS.items() if name in metrics] + rows
    if not rows:
        return f"## Measured\n\nNothing: `hw1 validate RUN_DIR --checkpoint {facts['checkpoint']}` was not run.\n"
    lines = ["## Measured\n", "| images | measure | value | 95% interval | images |", "|---|---|---|---|---|"]
    for split, title, metrics, name in rows:
        low_high = metrics.get(f"{name}_interval")
        interval = f"{low_high[0]:.4f} to {low_high[1]:.4f}" if low_high else ""
        lines.append(f"| {escape_markdown(split)} | {title} | {metrics[name]:.4f} | {interval} | {metrics.get('num_images', '')} |")
    note = "\nThe best epoch was chosen on val, so that its number there flatters a little.\n" if facts["checkpoint"] == "best" else ""
    return "\n".join(lines) + "\n" + note


def _made_from(recipe: Recipe, env: dict[str, Any]) -> str:
    git = env.get("git") or {}
    commit = f"{git['commit']}{' with changes' if git.get('modified') else ''}" if git else None
    packages = ", ".join(f"{name} {version}" for name, version in (env.get("packages") or {}).items() if version)
    facts = {
        "training images": env.get("num_train"),
        "validation images": env.get("num_val"),
        "fingerprint of the data": env.get("fingerprint"),
        "parameters": env.get("num_parameters"),
        "trained on": env.get("device"),
        "started": env.get("started"),
        "hw1": env.get("hw1"),
        "commit": commit,
        "versions": packages or None,
    }
    return "## Made from\n\n" + "".join(f"- {name}: {escape_markdown(str(value))}\n" for name, value in facts.items() if value is not None)


def public_recipe(recipe: Recipe) -> Recipe:
    """Return a copy of the recipe without paths of this machine and without logging settings."""
    default = Recipe()
    weights = Path(recipe.model.weights).name if recipe.model.weights else None
    changes = {
        "run": recipe.run.model_copy(update={"dir": default.run.dir}),
        "data": recipe.data.model_copy(update={"root": None, "cache_dir": None}),
        "model": recipe.model.model_copy(update={"weights": weights}),
        "log": default.log,
    }
    return recipe.model_copy(update=changes)


def _recipe(recipe: Recipe) -> str:
    return f"## Recipe\n\n<details><summary>every key</summary>\n\n```yaml\n{dump_recipe(public_recipe(recipe))}```\n\n</details>\n"


def _licence(recipe: Recipe) -> str:
    if recipe.model.weights:
        start = f"the weights in {Path(recipe.model.weights).name}"
    elif recipe.model.pretrained:
        start = f"timm's published weights of {recipe.model.name}"
    else:
        start = ""
    origin = f"they started from {start} and were trained" if start else "they were trained from scratch"
    return (
        "## Licence\n\nThe code, hw1, is under Apache-2.0. The weights are another matter, which this program cannot judge:"
        f" {origin} on the data above. Whoever hands them on states their licence here and in the head of this file.\n"
    )


def _read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object of the run folder; empty if there is no such file.

    Raises:
        UserError: The file is damaged.
    """
    try:
        content = json.loads(path.read_bytes())
        if not isinstance(content, dict):
            raise ValueError("no object")
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: damaged ({error})") from None
    return content
