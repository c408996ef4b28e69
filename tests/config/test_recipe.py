"""Recipes: what a value means, what is refused, what overrides and differences do."""

import pytest
from helpers.recipe_texts import load, problems, value
from pydantic import ValidationError

from hw1.config.load import differences

# ---------------------------------------------------------------------------------------------------- what values mean


@pytest.mark.parametrize(
    ("key", "text", "expected"),
    [
        ("optim.lr", "1e-4", 1e-4),
        ("optim.lr", "1E-4", 1e-4),
        ("optim.lr", ".5", 0.5),
        ("optim.lr", "5.", 5.0),
        ("optim.lr", "+1.5e+1", 15.0),
        ("optim.lr", "2", 2.0),
        ("sched.min_lr", "0", 0.0),
        ("seed", "3", 3),
        ("seed", "+3", 3),
        ("seed", "010", 10),  # YAML 1.1 would make it 8
        ("seed", "4294967295", 4294967295),
        ("log.wandb", "off", "off"),  # YAML 1.1 would make it false
        ("log.entity", "on", "on"),
        ("log.entity", "no", "no"),
        ("log.entity", "'1e-4'", "1e-4"),
        ("log.entity", "1:30", "1:30"),  # YAML 1.1: 90
        ("log.entity", "2001-01-01", "2001-01-01"),
        ("log.entity", "0x10", "0x10"),
        ("log.entity", "null", None),
        ("log.entity", "~", None),
        ("log.entity", "'null'", "null"),
        ("data.root", "häuser/ 猫", "häuser/ 猫"),
        ("data.val_fraction", "null", None),
        ("model.cbam_stages", "[]", ()),
        ("model.cbam_stages", "[1, 4]", (1, 4)),
        ("freeze.stages", "[stem, layer1]", ("stem", "layer1")),
        ("aug.scale", "[0.5, 1]", (0.5, 1.0)),
        ("model.pretrained", "false", False),
        ("model.pretrained", "True", True),
        ("model.kwargs", "{global_pool: max, layers: [1, 2]}", {"global_pool": "max", "layers": [1, 2]}),
        ("freeze.stages", "3", 3),
        ("freeze.stages", "0.5", 0.5),
        ("aug.size", "auto", "auto"),
        ("data.batch_size", "auto:64", "auto:64"),
        ("train.hours", "8.5", 8.5),
        ("aug.mean", "[0.5, 0.5, 0]", (0.5, 0.5, 0.0)),
    ],
)
def test_a_value_means_the_same_in_a_file_and_on_the_command_line(folder, key, text, expected):
    section, _, name = key.rpartition(".")
    in_file = load(f"{section}: {{{name}: {text}}}" if section else f"{name}: {text}")
    on_command_line = load("{}", f"{key}={text}")
    for recipe in (in_file, on_command_line):
        assert value(recipe, key) == expected
        assert type(value(recipe, key)) is type(expected)


WRONG_TYPES = {
    "seed": ["true", "'1'", "1.0", "2.5", "null", "abc", "[1]", "{}", "{a: 1}", ".inf", "0x10", "1_000", "9" * 400, "9" * 5000],
    "data.batch_size": ["false", "'32'", "32.0", "null", "[]", "Auto", "auto:", "auto:0", "auto:x", "automatic"],
    "train.hours": ["'8'", "8h", "true", "auto"],
    "data.root": ["3", "true", "[a]", "1e-4"],
    "optim.lr": ["true", "'1e-4'", "fast", "null", "[1e-4]"],
    "model.pretrained": ["1", "0", "'true'", "yes", "off", "null"],
    "model.cbam_stages": ["4", "'4'", "[true]", "['4']", "[4.0]", "[null]", "{a: 4}", "null"],
    "aug.scale": ["0.8", "[0.8]", "[0.8, 0.9, 1.0]", "['0.8', '1']", "[true, true]"],
    "log.tags": ["a", "[1]", "[[a]]"],
    "log.wandb": ["true", "On", "OFF", "null"],
    "model.kwargs": ["3", "[a]", "null", "max"],
    "freeze.stages": ["layer1", "null", "true", "[1]", "1.0", "-1", "{a: 1}"],
    "aug.mean": ["[0.5]", "0.5", "'0.5'", "Auto"],
    "aug.size": ["auto1", "null"],
    "mixup": ["3", "null", "[]", "on", "''"],
}


OUT_OF_RANGE = {
    "seed": ["-1", "4294967296", "9" * 299],
    "data.batch_size": ["0", "-1", "65537"],
    "data.val_fraction": ["0", "1", "-0.1"],
    "aug.size": ["0", "15", "1025"],
    "aug.hflip": ["-0.01", "1.01"],
    "aug.hue": ["0.51"],
    "optim.lr": ["0", "-1", "-1e-9", ".nan", ".inf", "-.inf", "1e400", "101", "9" * 299],
    "optim.clip_grad": ["0", ".nan", ".inf"],
    "optim.betas": ["[0.9, 1.0]", "[-0.1, 0.9]"],
    "mixup.prob": ["1.5", ".nan"],
    "model.cbam_stages": ["[0]", "[5]", "[4, -1]"],
    "model.num_classes": ["1", "0"],
    "train.epochs": ["0", "-3"],
    "train.hours": ["0", "-1", ".inf", "10001"],
    "run.name": ["a/b", "..", ".hidden", "'a b'", "''", "-x", "x" * 101],
    "run.dir": ["''"],
}


@pytest.mark.parametrize(("key", "text"), [(key, text) for group in (WRONG_TYPES, OUT_OF_RANGE) for key in group for text in group[key]])
def test_wrong_types_and_values_out_of_range_are_refused(folder, key, text):
    section, _, name = key.rpartition(".")
    answers = [("x.yaml", problems(f"{section}: {{{name}: {text}}}" if section else f"{name}: {text}"))]
    if key != "data.root":  # any text is a name there
        answers.append(("command line", problems("{}", f"{key}={text}")))
    for source, found in answers:
        assert len(found) == 1
        assert found[0].startswith(f"{source}: {key}: ")
        assert "got " in found[0]
        assert len(found[0]) < 200  # also where the value is long


@pytest.mark.parametrize(
    ("overrides", "keys"),
    [
        (["aug.scale=[1.0, 0.8]"], ["aug.scale"]),
        (["aug.ratio=[2, 1]"], ["aug.ratio"]),
        (["model.cbam_kernel=4"], ["model.cbam_kernel"]),
        (["model.cbam_stages=[4, 4]", "freeze.stages=[stem, stem]"], ["model.cbam_stages", "freeze.stages"]),
        (["sched.warmup_epochs=1"], ["sched.warmup_epochs"]),
        (["sched.name=cosine", "sched.warmup_epochs=51"], ["sched.warmup_epochs"]),
        (["optim.lr=1e-7"], ["sched.min_lr"]),
        (["data.generate=1", "data.val_fraction=0.2"], ["data.val_fraction"]),
        (["data.val_split=test", "data.download=true"], ["data.download", "data.val_split"]),
        (["data.dataset=torch/dtd", "data.generate=1"], ["data.generate"]),
        (["data.dataset=torch/dtd", "data.val_split=val", "data.val_fraction=0.1"], ["data.val_split"]),
        (["data.dataset=torch/dtd", "data.val_split=train"], ["data.val_split"]),
        (["data.dataset=torch/dtd", "data.train_split=validation"], ["data.val_split"]),
        (["data.dataset=torch/dtd", "data.input_key=img", "data.target_key=label"], ["data.input_key", "data.target_key"]),
        (["data.dataset=wds/x", "data.download=true"], ["data.download"]),
        (["data.sampling=balanced", "loss.class_weights=balanced"], ["loss.class_weights"]),
        (["train.amp=fp16", "train.device=cpu"], ["train.amp"]),
        (["train.hours=1", "train.deterministic=true"], ["train.hours"]),
        (["data.batch_size=auto", "train.deterministic=true"], ["data.batch_size"]),
        (["sched.name=multistep"], ["sched.milestones"]),
        (["sched.name=multistep", "sched.milestones=[3, 2]"], ["sched.milestones"]),
        (["loss.name=asl"], ["loss.name"]),
        (["loss.name=asl", "mixup.alpha=0", "mixup.cutmix_alpha=1"], ["loss.name"]),
        (["loss.name=bce", "loss.class_weights=balanced"], ["loss.class_weights"]),
        (["freeze.stages=[]", "freeze.until_epoch=1"], ["freeze.until_epoch"]),
        (["optim.name=adamx"], ["optim.name"]),
        (["model.kwargs={num_classes: 3, features_only: true}"], ["model.kwargs"]),
        (["model.grad_checkpointing=true", "train.cuda_graph=true"], ["train.cuda_graph"]),
        (["model.in_chans=1", "aug.mean=[0.4, 0.5, 0.6]", "aug.std=[0.2, 0.2, 0.2]"], ["aug.mean"]),
    ],
)
def test_settings_that_contradict_each_other_are_refused(folder, overrides, keys):
    assert [problem.split(": ")[1] for problem in problems("{}", *overrides)] == keys


@pytest.mark.parametrize(
    "overrides",
    [
        ["loss.name=asl", "mixup.prob=0"],
        ["loss.name=asl", "mixup.alpha=0"],
        ["sched.name=multistep", "sched.milestones=[0.5, 3]", "optim.lr=1e-7"],
    ],
)
def test_settings_that_go_together_are_taken(folder, overrides):
    load("{}", *overrides)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("adamx", "no such optimizer: 'adamx'; nearest: adamax"),
        ("AdamW", "no such optimizer: 'AdamW'; nearest: adamw"),
        ("fusedlamb", "fusedlamb needs the package apex"),
        ("bnbadam8bit", "bnbadam8bit needs the package bitsandbytes"),
        ("adahessian", "adahessian needs second derivatives"),
        ("kronw", "kronw draws random numbers that are in no checkpoint"),
    ],
)
def test_an_optimizer_that_there_is_not_names_the_nearest_or_the_reason(folder, name, message):
    [problem] = problems("{}", f"optim.name={name}")
    assert problem.startswith(f"command line: optim.name: {message}")


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("torch/flowers120", "torch/flowers102"),
        ("Torch/Flowers102", "torch/flowers102"),
        ("flowers", "torch/flowers102"),
        ("torch/food-101", "torch/food101"),
        ("torch/", "torch/dtd"),
        ("hfd/owner/name", "hfds/owner/name"),
        ("WDS/shards", "wds/shards"),
        ("hfds/", None),
        ("wds", None),
    ],
)
def test_an_unknown_data_set_names_the_nearest(folder, name, nearest):
    [problem] = problems("{}", f"data.dataset={name}")
    assert problem.startswith(f"command line: data.dataset: no such data set: {name!r}; nearest: {nearest or ''}")
    assert problem.endswith(" (torch/NAME, hfds/OWNER/NAME or wds/NAME)")


@pytest.mark.parametrize("name", ["tfds/mnist", "hfids/owner/name"])
def test_data_sets_without_an_order_are_refused_with_the_reason(folder, name):
    [problem] = problems("{}", f"data.dataset={name}")
    assert problem.startswith(f"command line: data.dataset: {name.partition('/')[0]}/ can only be read from front to back")


def test_a_recipe_is_frozen(folder):
    recipe = load("{}")
    with pytest.raises(ValidationError):
        recipe.seed = 1  # type: ignore[misc]
    with pytest.raises(ValidationError):
        recipe.optim.lr = 1.0  # type: ignore[misc]
    with pytest.raises(ValidationError):
        recipe.optim = recipe.optim  # type: ignore[misc]
    assert isinstance(recipe.model.cbam_stages, tuple)


def test_arguments_of_the_optimizer_are_one_value_or_set_one_by_one(folder):
    text = "optim: {name: lamb, kwargs: {eps: 1e-6, trust_clip: true}}"
    assert load(text).optim.kwargs == {"eps": 1e-6, "trust_clip": True}
    assert load(text, "optim.kwargs={eps: 1e-3}").optim.kwargs == {"eps": 1e-3}
    assert load(text, "optim.kwargs.eps=1e-3", "optim.kwargs.bias_correction=false").optim.kwargs == {
        "eps": 1e-3, "trust_clip": True, "bias_correction": False,
    }  # fmt: skip
    assert load(text, "optim.kwargs={}").optim.kwargs == {}
    assert load("{}", "optim.kwargs.eps=1e-3").optim.kwargs == {"eps": 1e-3}


# ------------------------------------------------------------------------------------------------------------ overrides


def test_overrides_come_last_and_the_last_of_them_wins(folder):
    recipe = load("optim: {lr: 0.1}", "optim.lr=0.2", "optim.lr=0.3", " seed =3", "run.name=a")
    assert (recipe.optim.lr, recipe.seed, recipe.run.name) == (0.3, 3, "a")


def test_an_override_can_be_a_section(folder):
    recipe = load("mixup: {alpha: 0.4}\noptim: {lr: 0.1}", "mixup={alpha: 0.1, prob: 1}", "optim={weight_decay: 0}", "sched={}")
    assert (recipe.mixup.alpha, recipe.mixup.prob) == (0.1, 1.0)
    assert (recipe.optim.lr, recipe.optim.weight_decay) == (0.1, 0.0)  # a section changes only what it names


@pytest.mark.parametrize("text", ["seed", "", "=", "=3", " =3", ".seed=3", "optim.=3", "optim..lr=3", "optim . lr=3", "se ed=3", "a\nb=3"])
def test_a_malformed_override_is_refused(folder, text):
    (found,) = problems("{}", text)
    assert found.startswith("command line: ")
    assert found.endswith("an override reads section.key=value")


@pytest.mark.parametrize("text", ["seed=[1", "seed={a", "seed='1", "seed=*x", "seed=!!int 3", "seed=@3", 'seed="\\0"', "seed=1\n---\n2"])
def test_an_override_that_is_no_yaml_is_refused(folder, text):
    (found,) = problems("{}", text)
    assert found.startswith("command line: ")
    assert "seed" in found


# ---------------------------------------------------------------------------------------------------------- differences


def test_differences_are_split_by_what_a_run_may_change(folder):
    old = load("run: {name: a}")
    new = load(
        "run: {name: a, dir: other}\ndata: {root: d, num_workers: 3, batch_size: 8}\nmodel: {cbam_stages: [], weights: w.pth}\n"
        "train: {epochs: 60, device: cpu, compile: true, amp: 'off'}\nlog: {tags: [ä], wandb: offline}\ncheckpoint: {every_minutes: 1}\n"
        "optim: {lr: 1e-3}\nseed: 119"
    )
    refused, allowed = differences(old, new)
    assert refused == [
        "seed: 118 -> 119",
        "data.batch_size: 32 -> 8",
        'model.weights: null -> "w.pth"',
        "model.cbam_stages: [4] -> []",
        "optim.lr: 0.0001 -> 0.001",
        'train.amp: "auto" -> "off"',
    ]
    assert allowed == [
        'run.dir: "runs" -> "other"',
        'data.root: null -> "d"',
        "data.num_workers: null -> 3",
        "train.epochs: 50 -> 60",
        'train.device: "auto" -> "cpu"',
        'train.compile: "auto" -> true',
        "checkpoint.every_minutes: 5.0 -> 1.0",
        'log.wandb: "off" -> "offline"',
        'log.tags: [] -> ["ä"]',
    ]
    assert differences(old, old) == ([], [])


def test_the_device_cache_of_earlier_versions_is_refused_in_one_line(folder):
    """A run begun with it states it in its config.yaml, so that continuing it says the same."""
    (found,) = problems("data: {cache: device}")
    assert found == (
        "x.yaml: data.cache: was removed in version 0.2; use disk or none, and run.name=NAME for a run begun with it, got 'device'"
    )


# ------------------------------------------------------------------------------------------------ text on the command line


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("data.root=photos #2", "photos #2"),
        ("run.name=007", "007"),
        ("run.name=1e5", "1e5"),
        ("data.root=a: b", "a: b"),
        ("data.root=[1, 2]", "[1, 2]"),
        ("data.root=- x", "- x"),
        ("data.root='quoted # text'", "quoted # text"),
        ("log.group=true", "true"),
        ("model.weights=&a", "&a"),
    ],
)
def test_text_on_the_command_line_is_kept_whole(folder, override, expected):
    """A shell has taken its quotes away; YAML's comments and numbers would change it."""
    assert value(load("{}", override), override.partition("=")[0]) == expected


@pytest.mark.parametrize("key", ["data.root", "model.weights", "run.name", "optim.lr", "log.entity"])
@pytest.mark.parametrize("text", ["", " "])
def test_an_empty_value_is_no_null(folder, key, text):
    """As of a shell variable that is not set."""
    assert problems("{}", f"{key}={text}") == [f"command line: {key}: has no value; {key}=null is none"]


@pytest.mark.parametrize("key", ["run.dir", "data.root", "data.cache_dir", "model.weights"])
def test_the_home_folder_is_expanded_in_every_path(folder, monkeypatch, key):
    monkeypatch.setenv("HOME", "/home/me")
    section, _, name = key.partition(".")
    for recipe in (load(f"{section}: {{{name}: ~/x}}"), load("{}", f"{key}=~/x")):
        assert value(recipe, key) == "/home/me/x"


@pytest.mark.parametrize(
    ("override", "wrong"),
    [
        ("log.project=team/proj", "team/proj"), ("log.project=a%b", "a%b"), ("log.tags=['']", "''"), (f"log.tags=[{'x' * 65}]", "xxx"),
        (f"log.group={'g' * 129}", "ggg"),
    ],
)  # fmt: skip
def test_names_that_wandb_refuses_are_refused_before_anything_is_made(folder, override, wrong):
    (found,) = problems("{}", override)
    assert found.startswith(f"command line: {override.partition('=')[0]}: ")
    assert wrong in found
