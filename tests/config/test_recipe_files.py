"""Recipes as files: bases, text that is no recipe, any bytes; and what is dumped loads to the same."""

import os
import re
import tempfile
from pathlib import Path
from typing import Any

import pytest
from helpers.recipe_texts import load, problems, value
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from hw1.config.contradictions import contradictions
from hw1.config.json_schema import recipe_schema
from hw1.config.load import all_keys, dump_recipe, load_recipe
from hw1.config.recipe import Recipe
from hw1.config.settings import MAX_BYTES, split_overrides
from hw1.errors import UserError

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


def test_what_has_an_equals_sign_is_an_override_unless_it_is_a_file(folder):
    Path("a=b.yaml").write_text("seed: 1")
    long = "log.notes=" + "x" * 300  # longer than a file's name may be
    assert split_overrides(["a=b.yaml", "c.yaml", long, "seed=2"]) == (["a=b.yaml", "c.yaml"], [long, "seed=2"])


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


# ----------------------------------------------------------------------------------------------------------- round trip


CLEAN_CHARACTERS = st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"])
CLEAN_TEXT = st.text(CLEAN_CHARACTERS, max_size=20)
TRICKY = ["1e-4", "off", "null", "~", "", " ", "a: b", "#x", "- a", "'", '"', "[", "!x", "*a", "&a", "%", "@", "1:30"]
TRICKY_TEXT = st.sampled_from(TRICKY)


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
            texts = st.from_regex(schema["pattern"].replace("$", r"\Z"), alphabet=CLEAN_CHARACTERS)
            return texts.filter(lambda text: len(text) <= schema.get("maxLength", 10_000))
        case "string":
            return (CLEAN_TEXT | TRICKY_TEXT).filter(lambda text: len(text) >= schema.get("minLength", 0))
        case "array" if "prefixItems" in schema:
            return st.tuples(*(values_of(item, defs) for item in schema["prefixItems"]))
        case "array":
            return st.lists(values_of(schema["items"], defs), max_size=4, unique_by=repr).map(tuple)
        case "object" if "properties" not in schema:
            names = st.sampled_from(["Blur", "limit", "null", "off"])
            arguments = st.dictionaries(names, st.none() | st.integers() | TRICKY_TEXT | st.lists(st.floats(-1, 1), max_size=2), max_size=2)
            return st.dictionaries(names, st.none() | arguments, min_size=1, max_size=1)
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
        data = content.get("data", {})
        if data.get("train_split"):
            data["dataset"] = "hfds/owner/name"  # which takes all keys that need a data set
        if data.get("val_fraction") is not None or data.get("dataset") is not None:
            data["generate"] = 0
        if data.get("val_split") is not None:
            data["val_fraction"] = None
        recipe = Recipe.model_validate(content | {"run": {"name": "x"} | content.get("run", {})})
        for key, message in contradictions(recipe):
            for section, name in re.findall(r"([a-z_]+)\.([a-z_]+)", f"{key} {message}"):
                content.get(section, {}).pop(name, None)
        return without_contradictions(content) if contradictions(recipe) else recipe

    sections = {name: values_of(item, schema["$defs"]) for name, item in schema["properties"].items()}
    return st.fixed_dictionaries({}, optional=sections).map(without_contradictions).filter(lambda recipe: recipe.run.name is not None)


def assert_survives_a_dump(recipe: Recipe) -> None:
    text = dump_recipe(recipe)
    again = load(text)
    assert again == recipe
    assert repr(again) == repr(recipe)  # types too: 1 is not 1.0
    assert dump_recipe(again) == text


@given(recipes())
@settings(max_examples=160, suppress_health_check=list(HealthCheck))
def test_a_dumped_recipe_loads_to_the_same(folder, recipe):
    assert_survives_a_dump(recipe)


TEXTS = [*TRICKY, "ä", "torch/food101", "hfds/owner/name"]
HUB = ("data.dataset=hfds/owner/name",)
BESIDE = {
    **dict.fromkeys((f"data.{name}" for name in ("download", "train_split", "val_split", "input_key", "target_key")), HUB),
    "loss.name": ("mixup.prob=0",),
    **{f"data.{name}": ("data.labels=x.csv",) for name in ("file_column", "label_column", "split_column", "group_column", "fold")},
    "data.fold_column": ("data.labels=x.csv", "data.fold=0"),
    "sched.name": ("sched.milestones=[1.0]",),
    "sched.min_lr": ("sched.name=constant",),
    "sched.warmup_epochs": ("sched.name=constant", "train.epochs=100000"),
}
"""What a key means nothing without."""


def examples_of(schema: dict[str, Any], defs: dict[str, Any]) -> list[Any]:
    """At least two values, if there are two, that a part of the JSON Schema describes; always the same ones."""
    if "$ref" in schema:
        return examples_of(defs[schema["$ref"].rpartition("/")[2]], defs)
    if "anyOf" in schema:
        return [value for option in schema["anyOf"] for value in examples_of(option, defs)]
    if "enum" in schema:
        return schema["enum"]
    if "const" in schema:
        return [schema["const"]]
    match schema["type"]:
        case "null":
            return [None]
        case "boolean":
            return [False, True]
        case "integer":
            low = schema.get("minimum", 0)
            return [low, low + 2]  # model.cbam_kernel is odd
        case "number":
            low = schema.get("minimum", schema.get("exclusiveMinimum"))
            high = schema.get("maximum", schema.get("exclusiveMaximum", low + 1.0))
            return [low + (high - low) / share for share in (3, 1.7)]
        case "string":
            return [text for text in TEXTS if re.search(schema.get("pattern", ""), text) and len(text) >= schema.get("minLength", 0)]
        case "array" if "prefixItems" in schema:
            items = [examples_of(item, defs) for item in schema["prefixItems"]]
            return [tuple(item[0] for item in items), tuple(item[1] for item in items), tuple(item[n > 0] for n, item in enumerate(items))]
        case "array":
            items = examples_of(schema["items"], defs)
            return [(), (items[0],), tuple(items)]
        case "object":
            return [{"OneOf": [{"Blur": {"p": 0.5}}, "rand-m9"]}, {"CoarseDropout": {"hole_height_range": [0.1, 2], "fill": "random"}}]
    raise AssertionError(schema)


KEYS = [key for key in all_keys() if key not in Recipe.model_fields or key == "seed"]


@pytest.mark.parametrize("key", KEYS)
def test_every_key_survives_a_dump(folder, key):
    schema, (section, _, name) = recipe_schema(), key.rpartition(".")
    defs = schema["$defs"]
    keys = defs[schema["properties"][section]["$ref"].rpartition("/")[2]] if section else schema
    seen = set()
    for given_value in examples_of(keys["properties"][name], defs):
        content = load("{}", *BESIDE.get(key, ())).model_dump()
        (content[section] if section else content)[name] = given_value
        recipe = Recipe.model_validate(content)
        assert contradictions(recipe) == []
        if recipe.run.name is None:
            recipe = recipe.model_copy(update={"run": load("{}").run})  # a recipe that was read has a name: its file's
        assert_survives_a_dump(recipe)
        seen.add(repr(value(recipe, key)))
    assert len(seen) > 1


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
@settings(max_examples=300)
def test_any_bytes_load_or_are_the_users_mistake(text):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "fuzz.yaml"
        path.write_bytes(text.encode("utf-8", "surrogateescape" if not any("\ud800" <= c < "\udc80" for c in text) else "surrogatepass"))
        assert all(len(problem.splitlines()) == 1 for problem in mistakes(path))


YAML_PIECES = st.sampled_from(
    [*"{}[]:,-?&*!|>'\"%@#~ \n\t", ": ", "- ", "? ", "\n  ", "seed", "mixup", "alpha", "base", "1e-4", "null", "!!int", "&a", "*a"]
)


@given(st.lists(YAML_PIECES, max_size=40).map("".join))
@settings(max_examples=300)
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
