"""The recipe as types: every section and key with its default, range and meaning.

The defaults are the report's best setting; `recipes/base.yaml` states them all. `hw1.config.load` reads the YAML.
"""

import math
import os
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from hw1.config.auto import AUTO, AUTO_BY_DEFAULT, AUTO_KEYS, OrAuto, OrAutoBatchSize
from hw1.config.library_names import DATASET_PATTERN, OPTIMIZERS

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Factor = Annotated[float, Field(ge=0.0, lt=1.0)]
Positive = Annotated[float, Field(gt=0.0)]
Channel = Annotated[float, Field(ge=0.0, le=1.0)]
FROM_LIST = Field(strict=False)  # YAML has no tuples: accept a list, but keep its items strict
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
FLAT_VAL_FRACTION = 0.2
"""What `data.val_fraction: null` holds out of class folders that lie in `data.root` itself, and of `data.labels` without a split."""


def _refuse_device_cache(value: object) -> object:
    if value == "device":
        raise PydanticCustomError("removed", "was removed in version 0.2; use disk or none, and run.name=NAME for a run begun with it")
    return value


def _refuse_steps(value: object) -> object:
    if value == "steps":
        raise PydanticCustomError(
            "removed", "was removed in version 0.2; use fused or albumentations, and run.name=NAME for a run begun with it"
        )
    return value


PathText = Annotated[str, Field(min_length=1), AfterValidator(os.path.expanduser)]
"""A file or folder; `~` is the home folder."""
Column = Annotated[str, Field(min_length=1)]
NO_COLUMN = "none"
"""Stands for a column that `data.labels` has and that is not to be used."""
StepName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
Tag = Annotated[str, Field(min_length=1, max_length=64)]


class Section(BaseModel):
    """A section of the recipe: immutable; a wrong type or an unknown key is an error, never a conversion."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class RunConfig(Section):
    """Where the run is written."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")] | None = None
    """Name of the run folder; null takes the recipe's file name without `.yaml`."""
    dir: PathText = "runs"
    """Folder that holds all runs; a run is written to `<dir>/<name>/seed<seed>/`."""


class DataConfig(Section):
    """Images and labels, batches, loading."""

    root: PathText | None = None
    """Folder of the images: `train/`, `val/` (and `test/`) with a folder for each class; with `val_fraction` the class folders alone; with
    `labels` the folder that its paths start from; with `dataset` the folder that holds it (null: for `hfds/` the library's default)."""
    labels: PathText | None = None
    """CSV or Parquet file with a row for each image, relative to the working directory; only the images that it lists are used. null =
    the folders are the labels."""
    file_column: Column | None = None
    """Column of `labels` with the path of the image in `root`, with or without its suffix; null = `file`, `path`, `image`, `id` and the
    like. What was found is said at the start."""
    label_column: Column | None = None
    """Column of `labels` with the class; a row without a label is a test image. null = `label`, `class`, `target`, `category` and the
    like."""
    split_column: Column | None = None
    """Column of `labels` with `train`, `val` or `test`; null = `split`, `set` or `subset` if there is one, `none` = not used."""
    group_column: Column | None = None
    """Column of `labels` whose equal values (a patient, a video) are never on both sides of `val_fraction`; an empty one stands alone.
    null = `group`, `patient`, `subject` and the like if there is one, `none` = not used."""
    fold: Annotated[int, Field(ge=0, le=9999)] | None = None
    """Fold of `labels` to validate on; the others are trained on. null = by split or `val_fraction`."""
    fold_column: Column | None = None
    """Column of `labels` with the fold, an integer; null = `fold` or `kfold`."""
    val_fraction: Annotated[float, Field(gt=0.0, lt=1.0)] | None = None
    """Fraction of each class of the training split that becomes the validation split; null = the data has a validation split, but 0.2 of
    class folders that lie in `root` itself, and of `labels` without validation images."""
    dataset: Annotated[str, Field(min_length=1, json_schema_extra={"pattern": DATASET_PATTERN})] | None = None
    """Public data set by timm's name: `torch/flowers102` (torchvision), `hfds/OWNER/NAME` (Hugging Face), `wds/NAME` (WebDataset shards in
    `root`); null = image folders."""
    download: bool = False
    """Download `dataset` if it is not in `root`."""
    train_split: Annotated[str, Field(min_length=1)] | None = None
    """Split of `dataset` to train on, by the data set's name for it; null = `train`."""
    val_split: Annotated[str, Field(min_length=1)] | None = None
    """Split of `dataset` to validate on; null = `validation`."""
    input_key: Annotated[str, Field(min_length=1)] | None = None
    """`hfds/`: column of the images, null = `image`. `wds/`: suffixes of the images, of which the first that a sample has is taken, null =
    `jpg;png;webp` and more."""
    target_key: Annotated[str, Field(min_length=1)] | None = None
    """`hfds/`: column of the labels, null = `label`. `wds/`: field of each sample's `.json`, null = its `.cls`."""
    generate: Annotated[int, Field(ge=0, le=1000)] = 0
    """Training images per class of a synthetic data set with 100 classes, drawn into `root` if it is not there; 0 = off."""
    bad_images: Literal["stop", "skip"] = "stop"
    """Unreadable or truncated images: `stop` lists them all before the first step and ends, `skip` leaves them out and counts them."""
    max_bad: Fraction = 0.05
    """Largest fraction of the images that `bad_images: skip` leaves out; if more are unreadable, the run stops."""
    batch_size: Annotated[int, Field(ge=1, le=65536), OrAutoBatchSize()] = 32
    """Images in one training batch, over all processes; the last batch of an epoch may be smaller. Several processes divide each batch as
    equally as possible, and each image has the same weight, so that their number changes no batch. `auto` = the largest that fits in the
    GPU's memory and divides the optimizer step of the recipe, which stays as it is: this key's number in the `base:` below (or `auto:N`),
    times `train.grad_accum`. On the CPU that number itself."""
    sampling: Literal["uniform", "balanced"] = "uniform"
    """Training: `uniform` = every image once an epoch; `balanced` = every class equally often in an epoch of as many images; images of a
    small class come several times, each time augmented anew."""
    eval_batch_size: Annotated[int, Field(ge=1, le=65536)] = 64
    """Images in one batch of validation and prediction, for each process."""
    num_workers: Annotated[int, Field(ge=0, le=256)] | None = None
    """Loader processes; null = by the cores that the process may use. Does not change results."""
    cache: Annotated[Literal["none", "disk"], BeforeValidator(_refuse_device_cache)] = "none"
    """Cache of decoded images: `none` = decode at every read, `disk` = one memory-mapped file."""
    cache_dir: PathText | None = None
    """Folder of the disk cache; null = the user's cache folder."""


class AugConfig(Section):
    """Size, augmentation and normalisation of images.

    What a recipe leaves to the weights (`Recipe.aug`) has here the value that it had before it could be `auto`: that of the runs of then.
    """

    size: Annotated[int, Field(ge=16, le=1024), OrAuto(), AUTO_BY_DEFAULT] = 224
    """Height and width of the model's input in pixels: of the training crop and the validation resize; `auto` = the weights'."""
    fit: Literal["squash", "crop", "pad"] = "squash"
    """How an image of validation and prediction becomes a square: `squash` = each side resized by its own factor (the report); `crop` =
    the shorter side resized, the longer one cut; `pad` = the longer side resized, the shorter one filled up with the mean colour."""
    crop_pct: Annotated[float, Field(gt=0.0, le=1.0), OrAuto(), AUTO_BY_DEFAULT] = 1.0
    """Validation and prediction: the image is resized for `size` divided by this, and the central square is taken; `auto` = 1, and the
    weights' with `fit: crop`."""
    interpolation: Annotated[Literal["bilinear", "bicubic", "nearest", "lanczos"], OrAuto(), AUTO_BY_DEFAULT] = "bilinear"
    """Validation and prediction: Pillow's filter of the resize, antialiased; `auto` = the weights'. The training crop is bilinear."""
    scale: Annotated[tuple[Annotated[float, Field(gt=0.0, le=1.0)], Annotated[float, Field(gt=0.0, le=1.0)]], FROM_LIST] = (0.8, 1.0)
    """RandomResizedCrop: smallest and largest fraction of the image's area."""
    ratio: Annotated[tuple[Positive, Positive], FROM_LIST] = (3 / 4, 4 / 3)
    """RandomResizedCrop: smallest and largest aspect ratio (width / height)."""
    hflip: Fraction = 0.5
    """Probability of a horizontal flip."""
    rotation: Annotated[float, Field(ge=0.0, le=180.0)] = 15.0
    """Largest rotation in either direction, degrees; drawn uniformly, corners are black."""
    brightness: Factor = 0.2
    """ColorJitter: factor drawn uniformly from 1 - this to 1 + this."""
    contrast: Factor = 0.2
    """ColorJitter: factor drawn uniformly from 1 - this to 1 + this."""
    saturation: Factor = 0.2
    """ColorJitter: factor drawn uniformly from 1 - this to 1 + this."""
    hue: Annotated[float, Field(ge=0.0, le=0.5)] = 0.2
    """ColorJitter: shift, as a fraction of the hue circle, drawn uniformly from -this to +this."""
    transforms: Annotated[tuple[StepName | dict[StepName, Any], ...], FROM_LIST] = ("policy",)
    """What is done to a training image, in this order: `policy` = the crop, flip, rotation and jitter of the keys above; `Name` or `Name:
    {arguments}` = a transform of albumentations, compositions with a list `transforms` too; a policy of timm (`rand-m9-mstd0.5-inc1`,
    `augmix-m3-w3`). Images must come out at `size`."""
    impl: Annotated[Literal["fused", "albumentations"], BeforeValidator(_refuse_steps)] = "fused"
    """How `policy` is carried out: `fused` = one resampling and one loop over the pixels, fast; `albumentations` = that library's
    RandomResizedCrop, HorizontalFlip, Rotate and ColorJitter, one after the other."""
    mean: Annotated[tuple[Channel, Channel, Channel], FROM_LIST, OrAuto(), AUTO_BY_DEFAULT] = IMAGENET_MEAN
    """Mean of each channel (RGB, values 0-1), subtracted in normalisation; `auto` = the weights', ImageNet's where there are none."""
    std: Annotated[tuple[Positive, Positive, Positive], FROM_LIST, OrAuto(), AUTO_BY_DEFAULT] = IMAGENET_STD
    """Standard deviation of each channel (RGB, values 0-1), the divisor in normalisation; `auto` as with `mean`."""


class MixupConfig(Section):
    """Mixup (Zhang et al. 2018) and CutMix (Yun et al. 2019), as in timm."""

    alpha: Annotated[float, Field(ge=0.0, le=100.0)] = 0.2
    """Mixup: lambda is drawn from Beta(alpha, alpha); 0 = no Mixup."""
    cutmix_alpha: Annotated[float, Field(ge=0.0, le=100.0)] = 0.0
    """CutMix: lambda is drawn from Beta(this, this), and a box of 1 - lambda of the image shows another; 0 = no CutMix."""
    prob: Fraction = 0.5
    """Probability that a batch is mixed: 0 = none, 0.5 = the report's random Mixup, 1 = every batch. In other modes, that of an image or
    a pair."""
    switch_prob: Fraction = 0.5
    """Where both alphas are above 0: probability of CutMix instead of Mixup."""
    mode: Literal["batch", "elem", "pair"] = "batch"
    """What is drawn for: a `batch`, each image (`elem`), or each `pair` of images, which are each other's partners."""
    off_epoch: Annotated[int, Field(ge=1, le=100_000)] | None = None
    """Epochs after which nothing is mixed; null = all are mixed."""


class LossConfig(Section):
    """The loss of training; that of validation is always the cross-entropy."""

    name: Literal["ce", "bce", "poly", "asl"] = "ce"
    """`ce` = cross-entropy; `bce` = binary cross-entropy of each class, their mean; `poly` = PolyLoss (Leng et al. 2022), cross-entropy
    plus 2 (1 - p); `asl` = asymmetric loss (Ridnik et al. 2021) for one label an image, without Mixup and CutMix. All are timm's."""
    label_smoothing: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    """Fraction of the target that is spread evenly over all classes, in training only."""
    class_weights: Literal["none", "balanced"] = "none"
    """Weights of the classes in training, `ce` only: `balanced` = images / (classes x images of the class), 1 on average over images."""


class ModelConfig(Section):
    """The network and its starting weights."""

    name: Annotated[str, Field(min_length=1)] = "resnext101_32x8d_cbam"
    """Any timm model, with or without the tag of its weights; the `*_cbam` models are this project's."""
    pretrained: bool = True
    """Start from timm's weights of the model's tag (ImageNet), downloaded once; false = from scratch. `weights` takes precedence."""
    weights: PathText | None = None
    """Local `.safetensors` or `.pth` file to start from instead of a download."""
    num_classes: Annotated[int, Field(ge=2, le=1_000_000)] | None = None
    """Number of classes; null = as many as the data has."""
    cbam_stages: Annotated[tuple[Annotated[int, Field(ge=1, le=4)], ...], FROM_LIST] = (4,)
    """Stages (1-4) that a CBAM follows; [] = the plain network."""
    cbam_reduction: Annotated[int, Field(ge=1, le=512)] = 16
    """CBAM: what the channels are divided by in the hidden layer of the channel attention."""
    cbam_kernel: Annotated[int, Field(ge=1, le=31)] = 7
    """CBAM: kernel size of the spatial attention in pixels of the feature map; odd."""
    cbam_init: Literal["paper", "identity"] = "paper"
    """CBAM: initial weights. `paper` = random, multiplies features by about 0.25; `identity` = passes features unchanged."""
    drop_layer3: Factor = 0.2
    """Probability of the element-wise dropout after layer3."""
    drop_rate: Factor = 0.5
    """Probability of the dropout before the classifier."""
    drop_path: Factor = 0.0
    """Stochastic depth: probability that an image skips the last block; it rises to this from the first block on."""
    grad_checkpointing: bool = False
    """Compute features again in the backward pass instead of keeping them: less memory, a slower step."""
    in_chans: Literal[1, 3] = 3
    """Channels of the model's input: 3 = RGB; 1 = grey, computed from any image (ITU-R 601), the weights' first layer summed over RGB."""
    kwargs: dict[str, Any] = {}
    """Further arguments of the model's constructor in timm: `{global_pool: max}`, `{patch_size: 8}`, ..."""


class FreezeConfig(Section):
    """Stages that are not trained."""

    stages: Annotated[tuple[str, ...], FROM_LIST] | Annotated[int, Field(ge=0, le=10_000)] | Annotated[float, Field(ge=0.0, lt=1.0)] = (
        "layer1",
        "layer2",
    )
    """What is not trained: a list of any of stem, layer1, ..., layer4, or names of modules of another timm model; or how many of timm's
    groups of layers, from the input on (`group_matcher`: the stem, then block by block), or which share of them (0.5)."""
    until_epoch: Annotated[int, Field(ge=1, le=100_000)] | None = None
    """Epochs after which the stages are trained too; null = they never are."""
    bn: Literal["train", "eval"] = "train"
    """BatchNorm of the frozen stages: `train` = statistics are updated (the report), `eval` = they are fixed."""


class OptimConfig(Section):
    """The optimizer."""

    name: Annotated[str, Field(json_schema_extra={"enum": [*OPTIMIZERS]})] = "adamw"
    """Optimizer, by timm's name: `adamw`, `sgd` (Nesterov momentum), `lamb`, `lion`, `muon`, ..."""
    lr: Annotated[float, Field(gt=0.0, le=100.0)] = 1e-4
    """Learning rate for batches of `lr_batch` images; `lr_scale` rescales it for others."""
    lr_scale: Literal["none", "linear", "sqrt"] = "none"
    """Factor of `lr`: `none` = 1, `linear` = r (Goyal et al. 2017, section 2.1), `sqrt` = the square root of r (usual for AdamW), where
    r = images of one optimizer step (`data.batch_size` x `train.grad_accum`) / `lr_batch`."""
    lr_batch: Annotated[int, Field(ge=1, le=268_435_456)] = 32
    """Images of the optimizer step that `lr` is meant for; only used by `lr_scale`."""
    betas: Annotated[tuple[Factor, Factor], FROM_LIST] = (0.9, 0.96)
    """Betas of AdamW and all others that have two; the first is the momentum of those that have one."""
    weight_decay: Annotated[float, Field(ge=0.0, le=10.0)] = 0.045
    """Weight decay; decoupled in AdamW."""
    decay_norm_bias: bool = True
    """Apply weight decay to normalisation parameters and biases too (the report); false = they have none, as in timm."""
    clip_grad: Annotated[float, Field(gt=0.0)] | None = None
    """Largest global L2 norm of the gradient; null = no clipping."""
    layer_decay: Annotated[float, Field(gt=0.0, le=1.0)] | None = None
    """Factor of the learning rate from each layer to the one before it, by timm's grouping; null = the same rate in all."""
    head_lr_scale: Annotated[float, Field(gt=0.0, le=1000.0)] = 1.0
    """Factor of the learning rate of the classifier."""
    kwargs: dict[str, Any] = {}
    """Further arguments of the optimizer, by its own names: `{eps: 1e-6}`."""


class SchedConfig(Section):
    """The learning rate over time."""

    name: Literal["plateau", "cosine", "poly", "step", "multistep", "constant"] = "plateau"
    """`plateau` = reduce the rate when the validation loss stops falling; `cosine`, `poly` = decay it to `min_lr` step by step; `step`,
    `multistep` = reduce it every `decay_epochs`, or at the `milestones`; `constant`."""
    factor: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.1
    """Plateau, step and multistep only: factor that reduces the rate."""
    patience: Annotated[int, Field(ge=0, le=10_000)] = 3
    """Plateau only: epochs without a better validation loss before the rate is reduced."""
    decay_epochs: Annotated[float, Field(gt=0.0, le=100_000.0)] = 10.0
    """Step only: epochs after each of which the rate is reduced; may be a fraction."""
    milestones: Annotated[tuple[Annotated[float, Field(gt=0.0, le=100_000.0)], ...], FROM_LIST] = ()
    """Multistep only: epochs after which the rate is reduced, rising; may be fractions."""
    power: Annotated[float, Field(gt=0.0, le=10.0)] = 1.0
    """Poly only: exponent of the decay; 1 = linear."""
    min_lr: Annotated[float, Field(ge=0.0)] = 1e-6
    """Plateau, cosine and poly only: lowest rate."""
    warmup_epochs: Annotated[float, Field(ge=0.0, le=10_000.0)] = 0.0
    """All but plateau: epochs of linear warm-up from zero; may be a fraction."""


class TrainConfig(Section):
    """Length, device, precision and execution of training."""

    epochs: Annotated[int, Field(ge=1, le=100_000)] = 50
    """Passes over the training data."""
    hours: Annotated[float, Field(gt=0.0, le=10_000.0)] | None = None
    """Hours in which the run ends, in all its parts; null = no limit. After the first epoch, once, it is decided how many of `epochs` they
    hold, and schedule, `freeze.until_epoch` and `mixup.off_epoch` are shortened in proportion."""
    grad_accum: Annotated[int, Field(ge=1, le=4096)] = 1
    """Batches whose gradients are averaged, sample by sample, into one optimizer step."""
    ema_decay: Annotated[float, Field(gt=0.0, lt=1.0)] | None = None
    """Decay of an exponential moving average of the weights, which is validated instead of the weights; null = off."""
    best_by: Literal["top1", "loss", "macro_f1", "balanced_accuracy"] = "top1"
    """What makes an epoch the best, whose weights are kept: the highest accuracy, macro-F1 or balanced accuracy (mean recall of the
    classes) of validation, or its lowest loss. Where two are equal, the lower loss decides."""
    early_stop: Annotated[int, Field(ge=1, le=100_000)] | None = None
    """Stop after this many epochs that are not better by `best_by` (the loss that decides between equals does not count); null = never."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Device; `auto` = CUDA if there is a GPU, else Apple's MPS (untested), else the CPU."""
    amp: Literal["auto", "bf16", "fp16", "off"] = "auto"
    """Mixed precision; `auto` = bf16 where the hardware computes in it, else fp16 on CUDA, else off."""
    channels_last: bool = True
    """Keep images and weights in NHWC memory order."""
    compile: bool | Literal["auto"] = "auto"
    """Use torch.compile for the training step; `auto` = for long runs on CUDA without `deterministic`."""
    cuda_graph: bool | Literal["auto"] = "auto"
    """Record whole training steps as CUDA graphs; `auto` = for long runs of one process on CUDA in bf16 or FP32, without `grad_accum` and
    `deterministic`."""
    deterministic: bool = False
    """Use deterministic kernels only: the same bits in every run on the same hardware, slower on CUDA."""
    sync_bn: bool = False
    """Several processes on GPUs only: BatchNorm normalises over the whole batch instead of each process' part of it."""


class CheckpointConfig(Section):
    """How often the state of training is saved."""

    every_minutes: Annotated[float, Field(gt=0.0, le=10_000.0)] = 5.0
    """Minutes between two saves of the whole state; it is also saved at the end of each epoch that is longer than a fifth of this."""
    every_steps: Annotated[int, Field(ge=1)] | None = None
    """Optimizer steps between two saves, in addition; null = by time only."""


class LogConfig(Section):
    """Console, Weights & Biases and other trackers."""

    every_steps: Annotated[int, Field(ge=1)] = 20
    """Steps between two looks at the running loss, for the console and the trackers' step curves; each waits for the device."""
    to: Annotated[tuple[Literal["tensorboard"], ...], FROM_LIST] = ()
    """Trackers beside wandb: `tensorboard` (`pip install tensorboard`) writes to `tensorboard/` in the run folder."""
    upload: Annotated[tuple[Literal["metrics", "images", "model"], ...], FROM_LIST] = ("metrics", "images")
    """What trackers are given: `metrics` (always) = recipe, versions, numbers, figures and tables without photographs, console lines;
    `images` = photographs of the training and validation data; `model` = the best weights, and the list of the data's files with their
    digests."""
    media_every: Annotated[int, Field(ge=1)] = 10
    """Epochs between two sets of confusion matrix, calibration, tables and images in the trackers, which also come at the end."""
    wandb: Literal["off", "online", "offline"] = "off"
    """Weights & Biases; `online` without an API key becomes `offline`, with a line that says so."""
    project: Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[^/\\#?%:]+$")] = "hw1"
    """wandb project."""
    entity: Annotated[str, Field(min_length=1)] | None = None
    """wandb team or user; null = the account's default."""
    group: Annotated[str, Field(min_length=1, max_length=128)] | None = None
    """wandb group; null = the run's name, which groups the seeds of one recipe."""
    tags: Annotated[tuple[Tag, ...], FROM_LIST] = ()
    """wandb tags."""


class Recipe(Section):
    """One training run. Names of sections and of their fields are the keys in YAML."""

    seed: Annotated[int, Field(ge=0, lt=2**32)] = 118
    """Seed of all random numbers: weights, order, augmentation, Mixup, dropout."""
    run: RunConfig = RunConfig()
    data: DataConfig = DataConfig()
    aug: AugConfig = AugConfig.model_validate(dict.fromkeys(AUTO_KEYS, AUTO))
    mixup: MixupConfig = MixupConfig()
    loss: LossConfig = LossConfig()
    model: ModelConfig = ModelConfig()
    freeze: FreezeConfig = FreezeConfig()
    optim: OptimConfig = OptimConfig()
    sched: SchedConfig = SchedConfig()
    train: TrainConfig = TrainConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    log: LogConfig = LogConfig()


# Keys that may differ when a run is continued: they change how long it runs, where, or what it prints, but not what it computes.
# `data.root` and `data.labels` may differ because the files and labels themselves are compared.
MAY_CHANGE = (
    "run.dir", "data.root", "data.labels", "data.*_column", "data.download",
    "data.num_workers", "data.cache_dir", "data.eval_batch_size", "data.max_bad",
    "train.epochs", "train.hours", "train.early_stop", "train.device", "train.compile", "train.cuda_graph", "checkpoint.*", "log.*",
)  # fmt: skip


def step_images(recipe: Recipe) -> int:
    """Return the images in one optimizer step, which `data.batch_size: auto` does not change."""
    size = recipe.data.batch_size
    number = int(size.partition(":")[2] or DataConfig().batch_size) if isinstance(size, str) else size
    return number * recipe.train.grad_accum


def base_lr(recipe: Recipe) -> float:
    """Return the learning rate that the schedule starts from: `optim.lr`, rescaled as `optim.lr_scale` says."""
    ratio = step_images(recipe) / recipe.optim.lr_batch
    factors = {"none": 1.0, "linear": ratio, "sqrt": math.sqrt(ratio)}
    return recipe.optim.lr * factors[recipe.optim.lr_scale]
