"""The report's comparisons as data: the variants, which two make a pair, what a pair changes, and what was published for it.

A variant is a recipe of `recipes/ablations/`; its name is the file's stem, the run's name and the row in every table. Published numbers
are those of the report's figures at the last epoch: one run each on `NUM_PUBLISHED_IMAGES` validation images, with Mixup's alpha 0.2
wherever there is Mixup. No torch, no files.
"""

from dataclasses import dataclass

NUM_PUBLISHED_IMAGES = 300
NUM_PUBLISHED_EPOCHS = 49
"""Epochs that the published times cover, of the 50 that were trained."""
WANDB_GROUP = "ablation"
"""One group for all variants, as some belong to several pairs and wandb gives a run one group; the pairs are tags (`tags_of`)."""


@dataclass(frozen=True)
class Published:
    """One published run at its last epoch: val accuracy (0-1), val loss (nats) and the hours that `NUM_PUBLISHED_EPOCHS` took."""

    accuracy: float
    loss: float
    hours: float


@dataclass(frozen=True)
class Variant:
    """A recipe of `recipes/ablations/`."""

    name: str
    """The file's stem."""
    title: str
    """In words, for tables and figures."""

    @property
    def published(self) -> tuple[Published, ...]:
        """Return the published runs of this configuration, each once; the report ran some several times, with different results."""
        sides = [side for pair in PAIRS for side in ((pair.without, pair.published_without), (pair.with_, pair.published_with))]
        return tuple(dict.fromkeys(published for name, published in sides if name == self.name and published))


@dataclass(frozen=True)
class Pair:
    """Two variants that differ in `factor` alone: `with_` is `without` with that factor changed."""

    name: str
    title: str
    factor: tuple[str, ...]
    """Dotted keys of the recipe that differ; () = the recipes are the same, and the runs differ in what env.json says."""
    without: str
    with_: str
    published_without: Published | None = None
    published_with: Published | None = None
    figures: tuple[int, ...] = ()
    """The report's figures: training curves without, with; val accuracy of both, val loss of both. () = the report has none."""


@dataclass(frozen=True)
class Single:
    """A variant that the report shows alone, without a published run of its own: its training curve and its val accuracy."""

    name: str
    title: str
    variant: str
    figures: tuple[int, int]


VARIANTS = {
    variant.name: variant
    for variant in (
        Variant("plain", "no Mixup, CBAM or dropout after layer3"),
        Variant("mixup", "Mixup on every batch"),
        Variant("mixup_cbam", "Mixup on every batch, CBAM"),
        Variant("mixup_cbam_dropout", "Mixup on every batch, CBAM, dropout"),
        Variant("random_mixup", "random Mixup, CBAM, dropout"),
        Variant("cbam_layer1", "CBAM after layer1"),
        Variant("cbam_layer2", "CBAM after layer2"),
        Variant("cbam_layer3", "CBAM after layer3"),
        Variant("cbam_identity", "CBAM that starts as identity"),
        Variant("backbone_resnet50", "ResNet50"),
        Variant("backbone_resnext50", "ResNeXt50_32x4d"),
        Variant("freeze_none", "nothing frozen"),
        Variant("freeze_stem", "stem, layer1 and layer2 frozen"),
    )
}

REPORT_PAIRS = (
    Pair(
        "mixup", "Mixup on every batch", ("mixup.prob",), "plain", "mixup",
        Published(0.8781, 0.7484, 2.335), Published(0.8740, 0.5926, 2.375), (1, 2, 3, 4),
    ),
    Pair(
        "cbam", "CBAM after layer4", ("model.cbam_stages",), "mixup", "mixup_cbam",
        Published(0.8740, 0.5926, 2.375), Published(0.8531, 0.6662, 2.465), (5, 6, 7, 8),
    ),
    Pair(
        "dropout", "dropout after layer3", ("model.drop_layer3",), "mixup_cbam", "mixup_cbam_dropout",
        Published(0.8552, 0.6735, 2.306), Published(0.8708, 0.5918, 2.305), (9, 10, 11, 12),
    ),
    Pair(
        "random_mixup", "random Mixup instead of Mixup on every batch", ("mixup.prob",), "mixup_cbam_dropout", "random_mixup",
        Published(0.8542, 0.6237, 2.413), Published(0.9042, 0.5752, 2.305), (15, 16, 17, 18),
    ),
)  # fmt: skip
"""The report's own pairs. Its run "without CBAM" is its run "with Mixup"."""

# The report says of other placements only that they were worse, and of the backbones only which was best.
EXTRA_PAIRS = (
    Pair("cbam_layer1", "CBAM after layer1 instead of layer4", ("model.cbam_stages",), "mixup_cbam", "cbam_layer1"),
    Pair("cbam_layer2", "CBAM after layer2 instead of layer4", ("model.cbam_stages",), "mixup_cbam", "cbam_layer2"),
    Pair("cbam_layer3", "CBAM after layer3 instead of layer4", ("model.cbam_stages",), "mixup_cbam", "cbam_layer3"),
    Pair("cbam_identity", "CBAM that starts as identity instead of at random", ("model.cbam_init",), "mixup_cbam", "cbam_identity"),
    Pair("backbone_resnet50", "ResNet50 as backbone", ("model.name",), "random_mixup", "backbone_resnet50"),
    Pair("backbone_resnext50", "ResNeXt50_32x4d as backbone", ("model.name",), "random_mixup", "backbone_resnext50"),
    Pair("freeze_none", "nothing frozen instead of layer1 and layer2", ("freeze.stages",), "random_mixup", "freeze_none"),
    Pair("freeze_stem", "the stem frozen beside layer1 and layer2", ("freeze.stages",), "random_mixup", "freeze_stem"),
)
PAIRS = REPORT_PAIRS + EXTRA_PAIRS

COMBINED = Single("combined", "the combined model", "mixup_cbam_dropout", (13, 14))
"""The report's "final" model. These two figures show no run of its own: figure 13 is figure 15, picture for picture, and figure 14 has the
curve of the run without Mixup in figure 3, 0.8781 included."""


def tags_of(name: str) -> tuple[str, ...]:
    """Return the wandb tags of a recipe's runs: its name and, if it is one of `VARIANTS`, `pair:<name>` for each of its pairs.

    The combined model, which the report shows once more in figures of its own, has the tag `combined`.
    """
    pairs = (f"pair:{pair.name}" for pair in PAIRS if name in (pair.without, pair.with_))
    return (name, *pairs, *((COMBINED.name,) if name == COMBINED.variant else ()))
