"""Check settings of a recipe that are each valid but not together."""

from difflib import get_close_matches

from hw1.config.auto import AUTO
from hw1.config.library_names import OPTIMIZERS, TORCH_SETS
from hw1.config.recipe import NO_COLUMN, DataConfig, Recipe, base_lr

REFUSED_OPTIMIZERS = {
    "fused": "needs the package apex; torch's fused kernels are used by themselves, with adamw, adam and sgd",
    "bnb": "needs the package bitsandbytes, which is not supported; lion and adafactor need less memory too",
    "adahessian": "needs second derivatives, which are not supported",
    "kron": "draws random numbers that are in no checkpoint, so that no run could be continued exactly",
}
"""What timm has besides, by how the names begin."""
RECIPE_KEYS = {
    "num_classes": "model.num_classes", "in_chans": "model.in_chans", "drop_rate": "model.drop_rate", "drop_path_rate": "model.drop_path",
    "img_size": "aug.size", "pretrained": "model.pretrained", "checkpoint_path": "model.weights", "cbam_stages": "model.cbam_stages",
    "cbam_reduction": "model.cbam_reduction", "cbam_kernel": "model.cbam_kernel", "cbam_init": "model.cbam_init",
    "drop_layer3": "model.drop_layer3",
    **dict.fromkeys(
        ("features_only", "out_indices", "pretrained_cfg", "pretrained_cfg_overlay", "pretrained_strict", "pretrained_filter_fn",
         "pretrained_model_args", "kwargs_filter", "model_cls", "model_cfg", "feature_cfg", "variant", "model_name", "cache_dir",
         "scriptable", "exportable", "no_jit"),
        "of no use here",
    ),
}  # fmt: skip
"""Arguments of `timm.create_model` that have keys of their own, or that no training can use."""
Contradiction = tuple[str, str]
"""Dotted key, what is wrong."""


def contradictions(recipe: Recipe) -> list[Contradiction]:
    """Return all contradictions of a recipe; a message names the other keys involved."""
    problems: list[Contradiction] = []
    for key, pair in (("aug.scale", recipe.aug.scale), ("aug.ratio", recipe.aug.ratio)):
        if pair[0] > pair[1]:
            problems.append((key, f"the first value must not exceed the second, got {list(pair)}"))
    if recipe.model.cbam_kernel % 2 == 0:
        problems.append(("model.cbam_kernel", f"must be odd, got {recipe.model.cbam_kernel}"))
    for key, items in (("model.cbam_stages", recipe.model.cbam_stages), ("freeze.stages", recipe.freeze.stages)):
        if isinstance(items, tuple) and len(set(items)) < len(items):
            problems.append((key, f"names a stage twice: {list(items)}"))
    if recipe.optim.name not in OPTIMIZERS:
        problems.append(("optim.name", _why_no_optimizer(recipe.optim.name)))
    for key, values in (("aug.mean", recipe.aug.mean), ("aug.std", recipe.aug.std)):
        if recipe.model.in_chans == 1 and len(set(values)) > 1 and values != AUTO:
            problems.append((key, f"model.in_chans=1 has one channel: give one value three times, or auto; got {list(values)}"))
    if taken := [f"{name} is {RECIPE_KEYS[name]}" for name in recipe.model.kwargs if name in RECIPE_KEYS]:
        problems.append(("model.kwargs", f"not for what has a key of its own or no place in training: {', '.join(taken)}"))
    if recipe.sched.name == "plateau" and recipe.sched.warmup_epochs:
        problems.append(("sched.warmup_epochs", "sched.name=plateau has no warm-up; use another schedule, or 0"))
    if recipe.sched.name in ("plateau", "cosine", "poly") and recipe.sched.min_lr > (lr := base_lr(recipe)):
        rule = "" if recipe.optim.lr_scale == "none" else " by optim.lr_scale"
        problems.append(("sched.min_lr", f"must not exceed optim.lr ({lr}{rule}), got {recipe.sched.min_lr}"))
    if recipe.sched.warmup_epochs > recipe.train.epochs:
        problems.append(("sched.warmup_epochs", f"must not exceed train.epochs ({recipe.train.epochs}), got {recipe.sched.warmup_epochs}"))
    milestones = recipe.sched.milestones
    if recipe.sched.name == "multistep" and (not milestones or list(milestones) != sorted(set(milestones))):
        problems.append(("sched.milestones", f"must be rising epochs for sched.name=multistep, got {list(milestones)}"))
    problems += _loss_contradictions(recipe)
    if recipe.freeze.until_epoch is not None and not recipe.freeze.stages:
        problems.append(("freeze.until_epoch", "means nothing without freeze.stages"))
    problems += _dataset_contradictions(recipe.data)
    problems += _labels_contradictions(recipe.data)
    if recipe.data.generate and recipe.data.val_fraction is not None:
        problems.append(("data.val_fraction", "generated data has its own val/; leave it null"))
    if recipe.train.deterministic and recipe.train.hours is not None:
        problems.append(("train.hours", "goes by the clock, as train.deterministic=true must not; use one of them"))
    if recipe.train.deterministic and isinstance(recipe.data.batch_size, str):
        problems.append(("data.batch_size", "auto goes by the memory at hand, as train.deterministic=true must not; use one of them"))
    if recipe.train.cuda_graph is True and recipe.model.grad_checkpointing:
        problems.append(("train.cuda_graph", "model.grad_checkpointing cannot be recorded; use one of them"))
    if recipe.train.amp == "fp16" and recipe.train.device == "cpu":
        problems.append(("train.amp", "fp16 needs a GPU; the CPU computes in bf16 or FP32 (auto, bf16, off)"))
    return problems


def _loss_contradictions(recipe: Recipe) -> list[Contradiction]:
    problems: list[Contradiction] = []
    mixup, name = recipe.mixup, recipe.loss.name
    if name == "asl" and mixup.prob and (mixup.alpha or mixup.cutmix_alpha):
        problems.append(("loss.name", "asl takes one label an image, none that mixup.alpha or mixup.cutmix_alpha mix; set mixup.prob=0"))
    if recipe.loss.class_weights == "balanced":
        if name != "ce":
            problems.append(("loss.class_weights", f"only loss.name=ce takes them, not {name}; data.sampling=balanced goes with any"))
        if recipe.data.sampling == "balanced":
            problems.append(("loss.class_weights", "data.sampling=balanced does the same already; use one of them"))
    return problems


def _why_no_optimizer(name: str) -> str:
    for prefix, reason in REFUSED_OPTIMIZERS.items():
        if name.startswith(prefix):
            return f"{name} {reason}"
    [nearest] = get_close_matches(name.lower(), OPTIMIZERS, n=1, cutoff=0.0)
    return f"no such optimizer: {name!r}; nearest: {nearest}"


def _dataset_contradictions(data: DataConfig) -> list[Contradiction]:
    names = ("download", "train_split", "val_split", "input_key", "target_key")
    names_set = [name for name in names if getattr(data, name)]
    if data.dataset is None:
        return [(f"data.{name}", "means nothing without data.dataset; for folders leave it out") for name in names_set]
    if problem := _unknown_dataset(data.dataset):
        return [("data.dataset", problem)]
    problems: list[Contradiction] = []
    kind = data.dataset.partition("/")[0]
    if data.generate:
        problems.append(("data.generate", "draws a folder of its own; leave data.dataset null"))
    if data.val_split is not None and data.val_fraction is not None:
        problems.append(("data.val_split", "data.val_fraction takes validation from the training split; use one of them"))
    if data.val_fraction is None and (data.train_split or "train") == (data.val_split or "validation"):
        problems.append(("data.val_split", f"{data.val_split or 'validation'} is what it trains on (data.train_split)"))
    if kind == "wds" and data.download:
        problems.append(("data.download", "wds/ reads shards that are there; fetch them into data.root first"))
    if kind == "torch":
        problems += [(f"data.{name}", "torch/ has no such choice; leave it null") for name in names_set if name.endswith("_key")]
    return problems


def _labels_contradictions(data: DataConfig) -> list[Contradiction]:
    columns = [name for name in DataConfig.model_fields if name.endswith("_column") and getattr(data, name)]
    if data.labels is None:
        names = [*columns, *(["fold"] if data.fold is not None else [])]
        return [(f"data.{name}", "means nothing without data.labels; for folders leave it out") for name in names]
    problems: list[Contradiction] = []
    if data.dataset is not None:
        problems.append(("data.labels", "data.dataset has labels of its own; use one of them"))
    if data.generate:
        problems.append(("data.generate", "draws a folder with labels of its own; leave data.labels null"))
    if data.fold is None and data.fold_column is not None:
        problems.append(("data.fold_column", "means nothing without data.fold; data.fold=0 validates on the fold 0"))
    if data.fold is not None and data.val_fraction is not None:
        problems.append(("data.val_fraction", "data.fold says which images to validate on; use one of them"))
    needed = [name for name in ("file_column", "label_column", "fold_column") if getattr(data, name) == NO_COLUMN]
    problems += [(f"data.{name}", f"{NO_COLUMN} is for columns that are not needed; leave it null, or name one") for name in needed]
    used = [getattr(data, name) for name in columns if getattr(data, name) != NO_COLUMN]
    problems += [(f"data.{name}", f"{getattr(data, name)} is named twice") for name in columns if used.count(getattr(data, name)) > 1][1:]
    return problems


def _unknown_dataset(name: str) -> str | None:
    """Return what is wrong with a name that no data set can have, with the nearest possible one; None for a possible name."""
    known = [f"torch/{each}" for each in TORCH_SETS]
    kind, _, rest = name.partition("/")
    if name in known or (kind in ("hfds", "wds") and rest):
        return None
    if kind in ("hfids", "tfds"):
        return f"{kind}/ can only be read from front to back, so that no run could be continued; take torch/, hfds/ or wds/, not {name!r}"
    [nearest] = get_close_matches(name.lower(), known, n=1, cutoff=0.0)
    if rest and (close := get_close_matches(kind.lower(), ("hfds", "wds"), n=1)):
        nearest = f"{close[0]}/{rest}"
    return f"no such data set: {name!r}; nearest: {nearest} (torch/NAME, hfds/OWNER/NAME or wds/NAME)"
