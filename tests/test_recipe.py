"""Recipes: what loads, what is refused and in which words, what stands where; and the command's exit without torch."""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from hw1.config import Recipe, contradictions
from hw1.errors import UserError
from hw1.recipe import MAX_BYTES, all_keys, differences, dump_recipe, load_recipe, with_sources
from hw1.schema import recipe_schema

ROOT = Path(__file__).parents[1]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder, so that messages name files without it."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def load(text: str | bytes, *overrides: str) -> Recipe:
    Path("x.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
    return load_recipe("x.yaml", overrides)


def problems(text: str | bytes, *overrides: str) -> list[str]:
    with pytest.raises(UserError) as caught:
        load(text, *overrides)
    assert all("\n" not in problem for problem in caught.value.problems)
    return list(caught.value.problems)


def value(recipe: Recipe, key: str) -> Any:
    section, _, name = key.rpartition(".")
    return getattr(getattr(recipe, section) if section else recipe, name)


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
        ("log.entity", "", None),
        ("log.entity", "''", ""),
        ("log.entity", "'null'", "null"),
        ("data.root", "häuser/ 猫", "häuser/ 猫"),
        ("data.val_fraction", "null", None),
        ("model.cbam_stages", "[]", ()),
        ("model.cbam_stages", "[1, 4]", (1, 4)),
        ("freeze.stages", "[stem, layer1]", ("stem", "layer1")),
        ("aug.scale", "[0.5, 1]", (0.5, 1.0)),
        ("model.pretrained", "false", False),
        ("model.pretrained", "True", True),
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
    "data.batch_size": ["false", "'32'", "32.0", "null", "[]"],
    "data.root": ["3", "true", "[a]", "1e-4"],
    "optim.lr": ["true", "'1e-4'", "fast", "null", "[1e-4]"],
    "model.pretrained": ["1", "0", "'true'", "yes", "off", "null"],
    "model.cbam_stages": ["4", "'4'", "[true]", "['4']", "[4.0]", "[null]", "{a: 4}", "null"],
    "aug.scale": ["0.8", "[0.8]", "[0.8, 0.9, 1.0]", "['0.8', '1']", "[true, true]"],
    "log.tags": ["a", "[1]", "[[a]]"],
    "log.wandb": ["true", "On", "OFF", "null"],
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
    "run.name": ["a/b", "..", ".hidden", "'a b'", "''", "-x", "x" * 101],
    "run.dir": ["''"],
}


@pytest.mark.parametrize(("key", "text"), [(key, text) for group in (WRONG_TYPES, OUT_OF_RANGE) for key in group for text in group[key]])
def test_wrong_types_and_values_out_of_range_are_refused(folder, key, text):
    section, _, name = key.rpartition(".")
    for source, found in (
        ("x.yaml", problems(f"{section}: {{{name}: {text}}}" if section else f"{name}: {text}")),
        ("command line", problems("{}", f"{key}={text}")),
    ):
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
        (["train.amp=fp16", "train.device=cpu"], ["train.amp"]),
    ],
)
def test_settings_that_contradict_each_other_are_refused(folder, overrides, keys):
    assert [problem.split(": ")[1] for problem in problems("{}", *overrides)] == keys


# -------------------------------------------------------------------------------------------- all problems, and sources


def test_all_problems_are_reported_at_once_each_with_its_source(folder):
    Path("base.yaml").write_text("optim: {lr: 0.1, wieght_decay: 3}\naug: {size: 0}\n")
    Path("mid.yaml").write_text("base: base.yaml\noptim: {lr: fast}\nmixop: {alpha: 1}\nmodel: {cbam_kernel: 6, cbam_kernel: 6}\n")
    found = problems(
        "base: mid.yaml\ntrain: {epoch: 3, compile: 1, ema_decay: 2}\naug: {ratio: [2, 1]}\nmixup: {alpha: {prob: 1}}",
        "sched.warmup_epochs=2",
        "data.root",
        "data.val_fraction=[",
        "model.depth.width=3",
        "seed=-1",
    )
    assert sorted(found) == sorted(
        [
            "mid.yaml: model.cbam_kernel: stands twice, again in line 4",
            "command line: data.root: an override reads section.key=value",
            "command line: data.val_fraction: not valid YAML: expected the node content, but found '<stream end>'",
            "base.yaml: optim.wieght_decay: unknown key; nearest: optim.weight_decay",
            "mid.yaml: mixop: unknown key; nearest: mixup",
            "x.yaml: train.epoch: unknown key; nearest: train.epochs",
            "command line: model.depth.width: unknown key; nearest: model.weights",
            "base.yaml: aug.size: must be greater than or equal to 16, got 0",
            "mid.yaml: optim.lr: must be a valid number, got 'fast'",
            "x.yaml: train.compile: must be a valid boolean, got 1",
            "x.yaml: train.ema_decay: must be less than 1, got 2",
            "x.yaml: mixup.alpha: must be a valid number, got a section",
            "command line: seed: must be greater than or equal to 0, got -1",
            "x.yaml: aug.ratio: the first value must not exceed the second, got [2.0, 1.0]",
            "command line: sched.warmup_epochs: sched.name=plateau has no warm-up; use cosine or constant, or 0",
        ]
    )


@pytest.mark.parametrize(
    ("key", "nearest"),
    [
        ("sead", "seed"),
        ("optimizer", "optim"),
        ("lr", "optim.lr"),
        ("epochs", "train.epochs"),
        ("batch_size", "data.batch_size"),
        ("optim.Lr", "optim.lr"),
        ("optim.momentum", "optim.name"),
        ("train.lr", "optim.lr"),
        ("sched.epochs", "train.epochs"),
        ("model.droprate", "model.drop_rate"),
        ("optimizer.name", "optim.name"),
        ("mixop.alfa", "mixup.alpha"),
        ("mixup.alpha.x", "mixup.alpha"),
        ("mixup.alpha.x.y", "mixup.alpha"),
        ("mixup.alfa" + ".x" * 5000, "mixup.alpha"),
    ],
)
def test_an_unknown_key_names_the_nearest_at_every_depth(folder, key, nearest):
    assert problems("{}", f"{key}=1") == [f"command line: {key}: unknown key; nearest: {nearest}"]


def test_each_known_key_one_letter_off_is_recognised(folder):
    for key in all_keys():
        wrong = key[:-1] + ("x" if key[-1] != "x" else "y")
        section, _, name = wrong.rpartition(".")
        text = f"{section}: {{{name}: 1}}" if section else f"{name}: 1"
        if len(name) > 2:
            assert problems(text) == [f"x.yaml: {wrong}: unknown key; nearest: {key}"]


def test_a_key_named_with_dots_in_a_file_is_refused(folder):
    assert problems("optim.lr: 1e-4") == ["x.yaml: optim.lr: keys have no dots here; write optim: {lr: ...}"]
    assert problems("{}", "mixup={x.alpha: 1}") == ["command line: mixup.x.alpha: keys have no dots here; write x: {alpha: ...}"]


def test_the_source_is_the_file_that_set_the_key_last(folder):
    Path("a.yaml").write_text("optim: {lr: a}\ntrain: {epochs: a}\nseed: a")
    Path("b.yaml").write_text("base: a.yaml\ntrain: {epochs: b}\nseed: b")
    assert set(problems("base: b.yaml\nseed: c")) == {
        "a.yaml: optim.lr: must be a valid number, got 'a'",
        "b.yaml: train.epochs: must be a valid integer, got 'b'",
        "x.yaml: seed: must be a valid integer, got 'c'",
    }
    assert load("base: b.yaml\nseed: 1", "train.epochs=2", "optim.lr=3", "seed=4").seed == 4


def test_a_contradiction_is_not_reported_of_a_value_that_is_wrong_itself(folder):
    assert problems("optim: {lr: fast}\nsched: {min_lr: 0.01}") == ["x.yaml: optim.lr: must be a valid number, got 'fast'"]
    assert problems("sched: {min_lr: 0.01}", "optim.lr=[1") == [
        "command line: optim.lr: not valid YAML: expected ',' or ']', but got '<stream end>'"
    ]
    assert problems("base: gone.yaml\nsched: {min_lr: 0.01}") == ["x.yaml: base: gone.yaml: no such recipe; nearest: x.yaml"]


def test_problems_found_later_get_the_source_of_their_key(folder):
    Path("a.yaml").write_text("model: {name: a}\nfreeze: {stages: [x]}")
    Path("x.yaml").write_text("base: a.yaml\ntrain: {device: mps}")
    late = ["model.name: no such model", "freeze.stages: no", "train.device: none", "aug.size: odd", "mixup.prob: p", "run folder: full"]
    assert with_sources(late, "x.yaml", ["freeze.stages=[y]", "mixup={prob: 1}"]) == [
        "a.yaml: model.name: no such model",
        "command line: freeze.stages: no",
        "x.yaml: train.device: none",
        "x.yaml: aug.size: odd",  # set nowhere
        "command line: mixup.prob: p",
        "run folder: full",  # no key
    ]


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


# ----------------------------------------------------------------------------------------------------- files and chains


def test_bases_are_relative_to_the_file_that_names_them(folder):
    Path("sub/deep").mkdir(parents=True)
    Path("root.yaml").write_text("seed: 1\noptim: {lr: 0.1, weight_decay: 0.1}")
    Path("sub/mid.yaml").write_text("base: ../root.yaml\noptim: {lr: 0.2}\nmodel: {cbam_stages: [1, 2, 3]}")
    Path("sub/deep/leaf.yaml").write_text("base: ../mid.yaml\nmodel: {cbam_stages: [4]}")
    recipe = load_recipe("sub/deep/leaf.yaml")
    assert (recipe.seed, recipe.optim.lr, recipe.optim.weight_decay, recipe.model.cbam_stages) == (1, 0.2, 0.1, (4,))
    assert recipe.run.name == "leaf"
    assert load_recipe(folder / "sub/deep/leaf.yaml") == recipe


def test_a_cycle_names_its_files(folder):
    assert problems("base: x.yaml") == ["x.yaml: base: a cycle: x.yaml -> x.yaml"]
    Path("b.yaml").write_text("base: c.yaml\nsead: 1")
    Path("c.yaml").write_text("base: ../" + folder.name + "/x.yaml")
    assert problems("base: b.yaml") == [
        f"c.yaml: base: a cycle: x.yaml -> b.yaml -> c.yaml -> ../{folder.name}/x.yaml",
        "b.yaml: sead: unknown key; nearest: seed",
    ]


def test_a_missing_file_is_named_with_the_nearest(folder):
    Path("resnet50.yaml").write_text("{}")
    with pytest.raises(UserError) as caught:
        load_recipe("resnet5.yaml", ["seed=x"])
    assert caught.value.problems == (
        "resnet5.yaml: no such recipe; nearest: resnet50.yaml",
        "command line: seed: must be a valid integer, got 'x'",
    )
    assert problems("base: resnet5.yaml\nseed: x") == [
        "x.yaml: base: resnet5.yaml: no such recipe; nearest: resnet50.yaml",
        "x.yaml: seed: must be a valid integer, got 'x'",
    ]
    with pytest.raises(UserError, match=r"^no/such/folder/r\.yaml: no such recipe$"):
        load_recipe("no/such/folder/r.yaml")


@pytest.mark.parametrize("base", ["[x]", "3", "{a: b}", "true", ".", "''", "x.yaml/y.yaml", '"a\\0b"', "f" * 300, "loop.yaml", "/dev/zero"])
def test_a_base_that_is_no_file_is_refused(folder, base):
    Path("loop.yaml").symlink_to("loop.yaml")
    (found,) = problems(f"base: {base}")
    assert found.startswith("x.yaml: base: ")


def test_a_recipe_that_cannot_be_read_is_refused(folder):
    for path in (".", "loop.yaml", "f" * 300):
        Path("loop.yaml").unlink(missing_ok=True)
        Path("loop.yaml").symlink_to("loop.yaml")
        with pytest.raises(UserError, match=rf"^{path}: "):
            load_recipe(path)


def billion_laughs() -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "is empty"),
        ("# nothing\n", "is empty"),
        ("null", "is empty"),
        ("[]", "is a list"),
        ("- seed: 1", "is a list"),
        ("seed", "is a str"),
        ("42", "is a int"),
        (b"\xff\xfes\x00e\x00", "not UTF-8"),
        (b"seed: \xe9", "not UTF-8"),
        (b"seed: 1\x00", "not valid YAML"),
        ("seed: [1", "not valid YAML in line 1"),
        ("seed: 1\n\tmixup: {}", "not valid YAML in line 2"),
        ("a: b: c", "not valid YAML in line 1"),
        ("---\nseed: 1\n---\nseed: 2", "not valid YAML in line 3: but found another document"),
        ("seed: 1\nseed: 1", "seed: stands twice, again in line 2"),
        ("mixup:\n  prob: 1\n  alpha: 1\n  prob: 0", "mixup.prob: stands twice, again in line 4"),
        ("mixup: {prob: 1}\nmixup: {alpha: 1}", "mixup: stands twice, again in line 2"),
        ("!!python/object/apply:os.system ['touch canary']", "tags (tag:yaml.org,2002:python/object/apply:os.system) are not allowed"),
        ("seed: !!python/object/new:os.system ['touch canary']", "are not allowed"),
        ("seed: !x 3", "tags (!x) are not allowed"),
        ("seed: ! 3", "tags (!) are not allowed"),
        ("data: &a {root: x}\nrun: *a", "aliases (*name) are not allowed"),
        ("a: &a {b: *a}", "aliases (*name) are not allowed"),
        ("mixup: {<<: {alpha: 1}}", "mixup.<<: unknown key"),
        (billion_laughs(), "aliases (*name) are not allowed"),
        ("seed: " + "[" * 5000, "nested too deeply"),
        ("{a: " * 5000, "nested too deeply"),
        ("a:\n" + "".join(" " * n + "- \n" for n in range(1, 200)), "nested too deeply"),
        ("- " * 5000, "nested too deeply"),
        ("1: 2", "x.yaml: 1: unknown key"),
        ("null: 2", "x.yaml: null: unknown key"),
        ("mixup: {true: 2}", "x.yaml: mixup.true: unknown key"),
        ("[a, b]: 2", "x.yaml: line 1: a key must be a word"),
        ("mixup:\n  ? {a: 1}\n  : 2", "x.yaml: mixup: line 2: a key must be a word"),
        ("'': 2", "a key must be a word"),
        ("'.': 2", "a key must be a word"),
        ('"a\\nb": 2', "a key must be a word"),
        ('run: {dir: "a\\0b"}', "run.dir: control characters are not allowed, got 'a\\x00b'"),
        ('log: {tags: [a, "\\uD800"]}', "log.tags: control characters are not allowed"),
        ("run: {dir: |\n  a\n  b\n  }", "not valid YAML"),
        ("run:\n  dir: |\n    a\n    b\n", "run.dir: control characters"),
        ('seed: "\\UFFFFFFFF"', "not valid YAML"),
        ("%YAML 9.9\n---\nseed: 1", "not valid YAML"),
        ("x" * (MAX_BYTES + 1), "larger than"),
    ],
)
def test_text_that_is_no_recipe_is_refused(folder, text, expected):
    (found,) = problems(text)
    assert found.startswith("x.yaml: ")
    assert expected in found
    assert sorted(os.listdir()) == ["x.yaml"]  # nothing was run


def test_a_file_of_unknown_keys_does_not_flood_the_screen(folder):
    found = problems("\n".join(f"k{n}: 1" for n in range(5000)))
    assert len(found) == 51
    assert found[-1] == "x.yaml: 4950 more unknown keys"


def test_a_byte_order_mark_and_windows_line_ends_are_read(folder):
    assert load(b"\xef\xbb\xbfseed: 5\r\nmixup:\r\n  prob: 1\r\n").mixup.prob == 1.0


def test_the_run_is_named_after_the_file_unless_it_has_a_name(folder):
    Path("my recipe.yaml").write_text("seed: x")
    with pytest.raises(UserError) as caught:
        load_recipe("my recipe.yaml", ["mixup.prob=2"])
    assert set(caught.value.problems) == {
        "my recipe.yaml: seed: must be a valid integer, got 'x'",
        "my recipe.yaml: run.name: the file name cannot name a run folder; set run.name=NAME",
        "command line: mixup.prob: must be less than or equal to 1, got 2",
    }
    assert load_recipe("my recipe.yaml", ["seed=1", "run.name=other"]).run.name == "other"
    assert load("{}").run.name == "x"
    assert load("run: {name: y}", "run.name=null").run.name == "x"


def test_a_recipe_is_frozen(folder):
    recipe = load("{}")
    with pytest.raises(ValidationError):
        recipe.seed = 1  # type: ignore[misc]
    with pytest.raises(ValidationError):
        recipe.optim.lr = 1.0  # type: ignore[misc]
    with pytest.raises(ValidationError):
        recipe.optim = recipe.optim  # type: ignore[misc]
    assert isinstance(recipe.model.cbam_stages, tuple)
    hash(recipe)


# ----------------------------------------------------------------------------------------------------------- round trip

CLEAN_TEXT = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), max_size=20)
TRICKY_TEXT = st.sampled_from(["1e-4", "off", "null", "~", "", " ", "a: b", "#x", "- a", "'", '"', "[", "!x", "*a", "&a", "%", "@", "1:30"])


def values_of(schema: dict[str, Any], defs: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Values that a part of the JSON Schema describes."""
    if "$ref" in schema:
        return values_of(defs[schema["$ref"].rpartition("/")[2]], defs)
    if "anyOf" in schema:
        return st.one_of([values_of(option, defs) for option in schema["anyOf"]])
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if "const" in schema:
        return st.just(schema["const"])
    low = schema.get("minimum", schema.get("exclusiveMinimum"))
    high = schema.get("maximum", schema.get("exclusiveMaximum"))
    open_ends = {"exclude_min": "exclusiveMinimum" in schema, "exclude_max": "exclusiveMaximum" in schema}
    match schema["type"]:
        case "null":
            return st.none()
        case "boolean":
            return st.booleans()
        case "integer":
            return st.integers(low, None if high is None else high - open_ends["exclude_max"])
        case "number":
            return st.floats(low, high, allow_nan=False, allow_infinity=False, **open_ends)
        case "string" if "pattern" in schema:
            return st.from_regex(schema["pattern"].replace("$", r"\Z"))
        case "string":
            return (CLEAN_TEXT | TRICKY_TEXT).filter(lambda text: len(text) >= schema.get("minLength", 0))
        case "array" if "prefixItems" in schema:
            return st.tuples(*(values_of(item, defs) for item in schema["prefixItems"]))
        case "array":
            return st.lists(values_of(schema["items"], defs), max_size=4, unique=True).map(tuple)
        case "object":
            return st.fixed_dictionaries({name: values_of(item, defs) for name, item in schema["properties"].items()})
    raise AssertionError(schema)


def recipes() -> st.SearchStrategy[Recipe]:
    schema = recipe_schema()
    del schema["properties"]["base"]

    def without_contradictions(content: dict[str, Any]) -> Recipe:
        for pair in ("scale", "ratio"):
            if pair in content.get("aug", {}):
                content["aug"][pair] = tuple(sorted(content["aug"][pair]))
        if content.get("data", {}).get("val_fraction") is not None:
            content["data"]["generate"] = 0
        recipe = Recipe.model_validate(content | {"run": {"name": "x"} | content.get("run", {})})
        for key, message in contradictions(recipe):
            for section, name in re.findall(r"([a-z_]+)\.([a-z_]+)", f"{key} {message}"):
                content.get(section, {}).pop(name, None)
        return without_contradictions(content) if contradictions(recipe) else recipe

    sections = {name: values_of(item, schema["$defs"]) for name, item in schema["properties"].items()}
    return st.fixed_dictionaries({}, optional=sections).map(without_contradictions).filter(lambda recipe: recipe.run.name is not None)


def test_a_dumped_recipe_loads_to_the_same(folder):
    seen: dict[str, set[str]] = {key: set() for key in all_keys()}

    @given(recipes())
    @settings(max_examples=80, deadline=None, derandomize=True)
    def check(recipe):
        text = dump_recipe(recipe)
        again = load(text)
        assert again == recipe
        assert repr(again) == repr(recipe)  # types too: 1 is not 1.0
        assert dump_recipe(again) == text
        for key in seen:
            seen[key].add(repr(value(recipe, key)))

    check()
    assert [key for key, values in seen.items() if len(values) < 2] == []  # every key was tried


def mistakes(path: Path, overrides: list[str] | None = None) -> list[str]:
    """Empty if the recipe loads; any other exception than the user's mistake goes through."""
    try:
        load_recipe(path, overrides or [])
    except UserError as error:
        return [*error.problems] or ["no problem named\n"]
    return []


@given(st.text() | st.binary().map(lambda data: data.decode("utf-8", "surrogateescape")))
@example("seed: \udcff")
@example("? ")
@example("{" * 40)
@example("a: &b\n? *b")
@example("!%1e x")
@settings(max_examples=300, deadline=None)
def test_any_bytes_load_or_are_the_users_mistake(text):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "fuzz.yaml"
        path.write_bytes(text.encode("utf-8", "surrogateescape" if not any("\ud800" <= c < "\udc80" for c in text) else "surrogatepass"))
        assert all(len(problem.splitlines()) == 1 for problem in mistakes(path))


YAML_PIECES = st.sampled_from(
    [*"{}[]:,-?&*!|>'\"%@#~ \n\t", ": ", "- ", "? ", "\n  ", "seed", "mixup", "alpha", "base", "1e-4", "null", "!!int", "&a", "*a"]
)


@given(st.lists(YAML_PIECES, max_size=40).map("".join))
@settings(max_examples=300, deadline=None)
def test_anything_like_yaml_loads_or_is_the_users_mistake(text):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "fuzz.yaml"
        path.write_text(text)
        for overrides in ([], [f"mixup={text}"], [text]):
            assert all(len(problem.splitlines()) == 1 for problem in mistakes(path, overrides))


@pytest.mark.parametrize("number", [1e-4, 0.1, 1 / 3, 1e-300, 5e-324, 1e22, 99.99999999999999])
def test_numbers_are_not_changed_by_being_written(folder, number):
    recipe = load("{}", f"sched.min_lr={number!r}", "sched.name=constant")
    assert recipe.sched.min_lr == number
    assert load(dump_recipe(recipe)).sched.min_lr == number


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
        "train.compile: false -> true",
        "checkpoint.every_minutes: 5.0 -> 1.0",
        'log.wandb: "off" -> "offline"',
        'log.tags: [] -> ["ä"]',
    ]
    assert differences(old, old) == ([], [])


# ---------------------------------------------------------------------------------------------------------- the command

HEAVY = {"torch", "timm", "cv2", "albumentations", "torchvision", "matplotlib", "wandb", "numpy"}


def train(*arguments: str) -> tuple[int, str, list[str], set[str]]:
    """The exit code of train.py in the working folder, its output, its messages and what it imported."""
    command = [sys.executable, "-X", "importtime", str(ROOT / "train.py"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    lines = done.stderr.splitlines()
    imported = {line.rpartition("|")[2].strip() for line in lines if line.startswith("import time:")}
    return done.returncode, done.stdout, [line for line in lines if not line.startswith("import time:")], imported


def test_the_printed_config_loads_to_the_same_recipe(folder):
    overrides = ["optim.lr=3e-4", "model.cbam_stages=[]", "log.tags=[a, 'off']", "data.root=d", "log.entity=1e5x"]
    code, text, messages, _ = train(str(ROOT / "recipes/resnet50.yaml"), *overrides, "--print-config")
    assert (code, messages) == (0, [])
    Path("x.yaml").write_text(text)
    assert load_recipe("x.yaml") == load_recipe(ROOT / "recipes/resnet50.yaml", overrides)
    assert load_recipe("x.yaml").run.name == "resnet50"
    assert os.listdir() == ["x.yaml"]


def test_a_mistake_exits_with_2_before_anything_heavy_is_imported_or_written(folder):
    Path("x.yaml").write_text("mixop: {}\nseed: 1.5")
    before = os.times()
    code, text, messages, imported = train("x.yaml", "train.epochs=0", "lr")
    after = os.times()
    assert (code, text) == (2, "")
    assert messages == [
        "command line: lr: an override reads section.key=value",
        "x.yaml: mixop: unknown key; nearest: mixup",
        "x.yaml: seed: must be a valid integer, got 1.5",
        "command line: train.epochs: must be greater than or equal to 1, got 0",
    ]
    assert "yaml" in imported
    assert not imported & HEAVY
    assert os.listdir() == ["x.yaml"]
    spent = after.children_user + after.children_system - before.children_user - before.children_system
    assert spent < 2.0, f"{spent:.2f} s of CPU time"


def test_an_option_that_does_not_exist_exits_with_2(folder):
    code, _, messages, imported = train(str(ROOT / "recipes/base.yaml"), "--over-write")
    assert code == 2
    assert messages[-1].endswith("--over-write")
    assert not any("Traceback" in line for line in messages)
    assert not imported & HEAVY
    assert os.listdir() == []
