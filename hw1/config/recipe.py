"""The recipe as types: every section and key with its default, range and meaning. No torch, no files.

The defaults are the report's best setting; `recipes/base.yaml` states them all. `hw1.config.load` reads the YAML.
"""

from difflib import get_close_matches
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Factor = Annotated[float, Field(ge=0.0, lt=1.0)]
Positive = Annotated[float, Field(gt=0.0)]
Channel = Annotated[float, Field(ge=0.0, le=1.0)]
TORCH_SETS = (
    "caltech101", "caltech256", "cifar10", "cifar100", "country211", "dtd", "eurosat", "fashion_mnist", "fgvc_aircraft", "flowers102",
    "food101", "gtsrb", "imagenet", "imagenette", "inaturalist", "kmnist", "mnist", "oxford_iiit_pet", "places365", "qmnist",
    "stanford_cars", "stl10", "sun397", "svhn",
)  # fmt: skip
"""What may follow `torch/` in `data.dataset`."""
DATASET_PATTERN = rf"^(torch/({'|'.join(TORCH_SETS)})|(hfds|wds)/[\w ./+-]+)$"  # for editors; `contradictions` knows more
FROM_LIST = Field(strict=False)  # YAML has lists only: a tuple may be built from one, its items stay strict


def _refuse_device_cache(value: object) -> object:
    if value == "device":
        raise PydanticCustomError("removed", "was removed in version 0.2; use disk or none, and run.name=NAME for a run begun with it")
    return value


class Section(BaseModel):
    """Strict, closed and immutable: a wrong type or an unknown key is an error, never a conversion."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class RunConfig(Section):
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")] | None = None
    """Name of the run folder; null takes the recipe's file name without `.yaml`."""
    dir: Annotated[str, Field(min_length=1)] = "runs"
    """Folder that holds all runs; a run is written to `<dir>/<name>/seed<seed>/`."""


class DataConfig(Section):
    root: Annotated[str, Field(min_length=1)] | None = None
    """Folder with `train/`, `val/` (and `test/`), each of class folders; or, with `val_fraction`, of class folders alone; or where
    `dataset` lies (null: for `hfds/` the library's own folder)."""
    val_fraction: Annotated[float, Field(gt=0.0, lt=1.0)] | None = None
    """Share of each class of the training split that becomes the validation split; null expects one."""
    dataset: Annotated[str, Field(min_length=1, json_schema_extra={"pattern": DATASET_PATTERN})] | None = None
    """Public data set by timm's name: `torch/flowers102` (torchvision), `hfds/OWNER/NAME` (Hugging Face), `wds/NAME` (WebDataset shards in
    `root`); null = folders."""
    download: bool = False
    """Fetch `dataset` if it is not there."""
    train_split: Annotated[str, Field(min_length=1)] | None = None
    """Split of `dataset` to train on, by the set's own name; null = `train`."""
    val_split: Annotated[str, Field(min_length=1)] | None = None
    """Split of `dataset` to validate on; null = `validation`."""
    input_key: Annotated[str, Field(min_length=1)] | None = None
    """`hfds/`: column of the images, null = `image`; `wds/`: their suffixes, of which a sample's first is taken, null =
    `jpg;png;webp` and more."""
    target_key: Annotated[str, Field(min_length=1)] | None = None
    """`hfds/`: column of the labels, null = `label`; `wds/`: field of the samples' `.json`, null = their `.cls`."""
    generate: Annotated[int, Field(ge=0, le=1000)] = 0
    """Training images per class of a generated 100-class set, drawn into `root` if it is not there; 0 = off."""
    bad_images: Literal["stop", "skip"] = "stop"
    """Unreadable or truncated images: `stop` before the first step and list them all, or `skip` and count them."""
    max_bad: Fraction = 0.05
    """Largest share of the images that `bad_images: skip` leaves out; where more are unreadable something else is wrong, and it stops."""
    batch_size: Annotated[int, Field(ge=1, le=65536)] = 32
    """Images in one training batch; the last, smaller batch of an epoch is kept. Several processes share each batch as equally as can be,
    and each image weighs the same, so that their number changes no batch."""
    sampling: Literal["uniform", "balanced"] = "uniform"
    """Training: `uniform` = every image once an epoch; `balanced` = every class equally often in an epoch of as many images, those of
    a small class several times, each time augmented anew."""
    eval_batch_size: Annotated[int, Field(ge=1, le=65536)] = 64
    """Images in one batch of validation and prediction, in each process."""
    num_workers: Annotated[int, Field(ge=0, le=256)] | None = None
    """Loader processes; null chooses by the cores the process may use. Never changes the result."""
    cache: Annotated[Literal["none", "disk"], BeforeValidator(_refuse_device_cache)] = "none"
    """Decoded images: `none` decodes at every read, `disk` keeps one memory-mapped file."""
    cache_dir: Annotated[str, Field(min_length=1)] | None = None
    """Folder of the disk cache; null takes the user's cache folder."""


class AugConfig(Section):
    size: Annotated[int, Field(ge=16, le=1024)] = 224
    """Height and width of the model's input, pixels: training crop and validation resize."""
    scale: Annotated[tuple[Annotated[float, Field(gt=0.0, le=1.0)], Annotated[float, Field(gt=0.0, le=1.0)]], FROM_LIST] = (0.8, 1.0)
    """RandomResizedCrop: smallest and largest share of the image's area."""
    ratio: Annotated[tuple[Positive, Positive], FROM_LIST] = (3 / 4, 4 / 3)
    """RandomResizedCrop: smallest and largest aspect (width / height)."""
    hflip: Fraction = 0.5
    """Probability of a horizontal flip."""
    rotation: Annotated[float, Field(ge=0.0, le=180.0)] = 15.0
    """Largest rotation either way, degrees; uniform, corners filled black."""
    brightness: Factor = 0.2
    """ColorJitter: factor uniform in 1 -+ this."""
    contrast: Factor = 0.2
    """ColorJitter: factor uniform in 1 -+ this."""
    saturation: Factor = 0.2
    """ColorJitter: factor uniform in 1 -+ this."""
    hue: Annotated[float, Field(ge=0.0, le=0.5)] = 0.2
    """ColorJitter: shift uniform in -+ this share of the hue circle."""
    impl: Literal["fused", "steps"] = "fused"
    """How training images are augmented: `fused` = one resampling and one loop over the pixels, fast; `steps` = one step at a time."""
    mean: Annotated[tuple[Channel, Channel, Channel], FROM_LIST] = (0.485, 0.456, 0.406)
    """Per-channel mean (RGB, of values 0-1) that normalisation subtracts."""
    std: Annotated[tuple[Positive, Positive, Positive], FROM_LIST] = (0.229, 0.224, 0.225)
    """Per-channel standard deviation (RGB, of values 0-1) that normalisation divides by."""


class MixupConfig(Section):
    alpha: Annotated[float, Field(ge=0.0, le=100.0)] = 0.2
    """Mixup's lambda is drawn from Beta(alpha, alpha), once a batch; 0 = never mix."""
    prob: Fraction = 0.5
    """Probability that a batch is mixed: 0 never, 0.5 the report's random Mixup, 1 every batch."""


class LossConfig(Section):
    label_smoothing: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    """Share of the target spread evenly over all classes, in training only."""
    class_weights: Literal["none", "balanced"] = "none"
    """Training: `balanced` weights the target of each class by images / (classes x images of the class), 1 on average over images."""


class ModelConfig(Section):
    name: Annotated[str, Field(min_length=1)] = "resnext101_32x8d_cbam"
    """Any timm model, with or without a pretrained tag; the `*_cbam` ones are this project's."""
    pretrained: bool = True
    """Start from timm's ImageNet weights of the model's tag, downloaded once; false = from scratch. `weights` comes first."""
    weights: Annotated[str, Field(min_length=1)] | None = None
    """Local `.safetensors` or `.pth` file to start from instead of a download."""
    num_classes: Annotated[int, Field(ge=2, le=1_000_000)] | None = None
    """Classes; null takes them from the data."""
    cbam_stages: Annotated[tuple[Annotated[int, Field(ge=1, le=4)], ...], FROM_LIST] = (4,)
    """Stages (1-4) that a CBAM follows; [] = plain backbone."""
    cbam_reduction: Annotated[int, Field(ge=1, le=512)] = 16
    """CBAM: channels are divided by this in the channel branch's hidden layer."""
    cbam_kernel: Annotated[int, Field(ge=1, le=31)] = 7
    """CBAM: odd kernel size of the spatial branch, pixels of the feature map."""
    cbam_init: Literal["paper", "identity"] = "paper"
    """CBAM's start: `paper` = random (scales features by about 0.25), `identity` = passes features unchanged."""
    drop_layer3: Factor = 0.2
    """Element-wise dropout after layer3."""
    drop_rate: Factor = 0.5
    """Dropout before the classifier."""


class FreezeConfig(Section):
    stages: Annotated[tuple[str, ...], FROM_LIST] = ("layer1", "layer2")
    """Stages whose parameters are not trained: any of stem, layer1 ... layer4, or module names of another timm model."""
    bn: Literal["train", "eval"] = "train"
    """BatchNorm of the frozen stages: `train` keeps updating its statistics (the report), `eval` leaves them fixed."""


class OptimConfig(Section):
    name: Literal["adamw", "sgd"] = "adamw"
    """AdamW, or SGD with Nesterov momentum."""
    lr: Annotated[float, Field(gt=0.0, le=100.0)] = 1e-4
    """Learning rate; of another batch than `lr_batch` it is rescaled by `lr_scale`."""
    lr_scale: Literal["none", "linear", "sqrt"] = "none"
    """What `lr` is multiplied by: `none` = 1, `linear` = r (Goyal et al. 2017, section 2.1), `sqrt` = the root of r (usual for AdamW),
    where r = images of one optimizer step, `data.batch_size` x `train.grad_accum`, / `lr_batch`."""
    lr_batch: Annotated[int, Field(ge=1, le=268_435_456)] = 32
    """Images of the optimizer step that `lr` is meant for; `lr_scale` looks at it."""
    betas: Annotated[tuple[Factor, Factor], FROM_LIST] = (0.9, 0.96)
    """AdamW's betas; the first is SGD's momentum."""
    weight_decay: Annotated[float, Field(ge=0.0, le=10.0)] = 0.045
    """Weight decay (decoupled in AdamW)."""
    decay_norm_bias: bool = True
    """Decay normalisation parameters and biases too, as the report does; false = timm's no-decay group."""
    clip_grad: Annotated[float, Field(gt=0.0)] | None = None
    """Largest global L2 norm of the gradient; null = no clipping."""


class SchedConfig(Section):
    name: Literal["plateau", "cosine", "constant"] = "plateau"
    """`plateau` cuts the rate when validation loss stalls; `cosine` decays it to `min_lr`, step by step; `constant` keeps it."""
    factor: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.1
    """Plateau only: the rate is multiplied by this."""
    patience: Annotated[int, Field(ge=0, le=10_000)] = 3
    """Plateau only: epochs without a better validation loss that are waited out."""
    min_lr: Annotated[float, Field(ge=0.0)] = 1e-6
    """Lowest rate of plateau and cosine."""
    warmup_epochs: Annotated[float, Field(ge=0.0, le=10_000.0)] = 0.0
    """Cosine and constant only: epochs of linear warm-up from zero; may be a fraction."""


class TrainConfig(Section):
    epochs: Annotated[int, Field(ge=1, le=100_000)] = 50
    """Passes over the training data."""
    grad_accum: Annotated[int, Field(ge=1, le=4096)] = 1
    """Batches whose gradients are averaged, sample by sample, into one optimizer step."""
    ema_decay: Annotated[float, Field(gt=0.0, lt=1.0)] | None = None
    """Decay of an exponential moving average of the weights, which is then what is validated; null = off."""
    early_stop: Annotated[int, Field(ge=1, le=100_000)] | None = None
    """Stop after this many epochs without a better validation accuracy; null = never."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to train; `auto` takes CUDA, then Apple's MPS (untested), then the CPU."""
    amp: Literal["auto", "bf16", "fp16", "off"] = "auto"
    """Mixed precision; `auto` takes bf16 where the device computes in it, else fp16 on CUDA, else off."""
    channels_last: bool = True
    """Keep images and weights in NHWC memory order."""
    compile: bool | Literal["auto"] = "auto"
    """torch.compile the training step; `auto`: on CUDA where the run is long enough for it to pay, not with `deterministic`."""
    cuda_graph: bool | Literal["auto"] = "auto"
    """Record whole training steps as CUDA graphs; `auto`: on CUDA in bf16 or FP32, without `grad_accum`, where the run is long."""
    deterministic: bool = False
    """Deterministic kernels only: the same bits at every run on the same hardware, slower on CUDA."""
    sync_bn: bool = False
    """Several processes, on GPUs only: BatchNorm normalises by the whole batch, not by each process' share of it."""


class CheckpointConfig(Section):
    every_minutes: Annotated[float, Field(gt=0.0, le=10_000.0)] = 5.0
    """Save the whole state this often, and at the end of each epoch that is longer than a fifth of it."""
    every_steps: Annotated[int, Field(ge=1)] | None = None
    """Save every this many optimizer steps too; null = by time only."""


class LogConfig(Section):
    every_steps: Annotated[int, Field(ge=1)] = 20
    """Steps between two looks at the running loss, each of which waits for the device."""
    wandb: Literal["off", "online", "offline"] = "off"
    """Weights & Biases; `online` without an API key becomes `offline` and says so."""
    project: Annotated[str, Field(min_length=1, max_length=128)] = "hw1"
    """wandb project."""
    entity: str | None = None
    """wandb team or user; null = the account's default."""
    group: str | None = None
    """wandb group; null = the run's name, so that the seeds of one recipe stand together."""
    tags: Annotated[tuple[str, ...], FROM_LIST] = ()
    """wandb tags."""


class Recipe(Section):
    """One training run. The section's name is the key in YAML; its fields are the keys in it."""

    seed: Annotated[int, Field(ge=0, lt=2**32)] = 118
    """Seed of everything that is drawn: weights, order, augmentation, Mixup, dropout."""
    run: RunConfig = RunConfig()
    data: DataConfig = DataConfig()
    aug: AugConfig = AugConfig()
    mixup: MixupConfig = MixupConfig()
    loss: LossConfig = LossConfig()
    model: ModelConfig = ModelConfig()
    freeze: FreezeConfig = FreezeConfig()
    optim: OptimConfig = OptimConfig()
    sched: SchedConfig = SchedConfig()
    train: TrainConfig = TrainConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    log: LogConfig = LogConfig()


# Keys that may differ when a run is continued: they change how long, where or how loudly it runs, not what is computed.
# `data.root` may move because the files themselves are compared.
MAY_CHANGE = (
    "run.dir", "data.root", "data.download", "data.num_workers", "data.cache_dir", "data.eval_batch_size", "data.max_bad",
    "train.epochs", "train.early_stop", "train.device", "train.compile", "train.cuda_graph", "checkpoint.*", "log.*",
)  # fmt: skip


def base_lr(recipe: Recipe) -> float:
    """The learning rate that the schedule starts from, `optim.lr` by the rule of `optim.lr_scale`."""
    ratio = recipe.data.batch_size * recipe.train.grad_accum / recipe.optim.lr_batch
    return recipe.optim.lr * {"none": 1.0, "linear": ratio, "sqrt": ratio**0.5}[recipe.optim.lr_scale]


def contradictions(recipe: Recipe) -> list[tuple[str, str]]:
    """Settings that are each valid but not together, as (dotted key, what is wrong)."""
    found = []
    for key, pair in (("aug.scale", recipe.aug.scale), ("aug.ratio", recipe.aug.ratio)):
        if pair[0] > pair[1]:
            found.append((key, f"the first value must not exceed the second, got {list(pair)}"))
    if recipe.model.cbam_kernel % 2 == 0:
        found.append(("model.cbam_kernel", f"must be odd, got {recipe.model.cbam_kernel}"))
    for key, items in (("model.cbam_stages", recipe.model.cbam_stages), ("freeze.stages", recipe.freeze.stages)):
        if len(set(items)) < len(items):
            found.append((key, f"names a stage twice: {list(items)}"))
    if recipe.sched.name == "plateau" and recipe.sched.warmup_epochs:
        found.append(("sched.warmup_epochs", "sched.name=plateau has no warm-up; use cosine or constant, or 0"))
    if recipe.sched.name != "constant" and recipe.sched.min_lr > (lr := base_lr(recipe)):
        by = "" if recipe.optim.lr_scale == "none" else " by optim.lr_scale"
        found.append(("sched.min_lr", f"must not exceed optim.lr ({lr}{by}), got {recipe.sched.min_lr}"))
    if recipe.sched.warmup_epochs > recipe.train.epochs:
        found.append(("sched.warmup_epochs", f"must not exceed train.epochs ({recipe.train.epochs}), got {recipe.sched.warmup_epochs}"))
    found += _dataset_contradictions(recipe.data)
    if recipe.data.generate and recipe.data.val_fraction is not None:
        found.append(("data.val_fraction", "generated data has its own val/; leave it null"))
    if recipe.data.sampling == "balanced" and recipe.loss.class_weights == "balanced":
        found.append(("loss.class_weights", "data.sampling=balanced does the same already; use one of them"))
    if recipe.train.amp == "fp16" and recipe.train.device == "cpu":
        found.append(("train.amp", "fp16 needs a GPU; the CPU computes in bf16 or FP32 (auto, bf16, off)"))
    return found


def _dataset_contradictions(data: DataConfig) -> list[tuple[str, str]]:
    names = ("download", "train_split", "val_split", "input_key", "target_key")
    given = [name for name in names if getattr(data, name)]
    if data.dataset is None:
        return [(f"data.{name}", "means nothing without data.dataset; for folders leave it out") for name in given]
    if problem := _unknown_dataset(data.dataset):
        return [("data.dataset", problem)]
    found = []
    kind = data.dataset.partition("/")[0]
    if data.generate:
        found.append(("data.generate", "draws a folder of its own; leave data.dataset null"))
    if data.val_split is not None and data.val_fraction is not None:
        found.append(("data.val_split", "data.val_fraction takes validation from the training split; use one of them"))
    if data.val_fraction is None and (data.train_split or "train") == (data.val_split or "validation"):
        found.append(("data.val_split", f"{data.val_split or 'validation'} is what it trains on (data.train_split)"))
    if kind == "wds" and data.download:
        found.append(("data.download", "wds/ reads shards that are there; fetch them into data.root first"))
    if kind == "torch":
        found += [(f"data.{name}", "torch/ has no such choice; leave it null") for name in given if name.endswith("_key")]
    return found


def _unknown_dataset(name: str) -> str | None:
    """What is wrong with a name that no data set can have, with the nearest that one has."""
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
