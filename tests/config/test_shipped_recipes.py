"""The recipe files that come with the project, and their JSON Schema."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from helpers.paths import ROOT

from hw1.config.load import all_keys, load_recipe
from hw1.config.recipe import Recipe
from hw1.config.strict_yaml import parse_yaml
from hw1.models.resolve import resolve

FILES = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "recipes").rglob("*.y*ml"))
SCHEMA = json.loads((ROOT / "recipes/schema.json").read_text())


def content(file: str) -> dict[str, Any]:
    parsed, problems = parse_yaml((ROOT / file).read_text())
    assert problems == []
    return parsed


def keys_of(parsed: dict[str, Any], prefix: str = "") -> list[str]:
    found = []
    for name, item in parsed.items():
        found += [prefix + name, *(keys_of(item, f"{prefix}{name}.") if isinstance(item, dict) else [])]
    return found


def test_there_are_recipes():
    assert {"recipes/base.yaml", "recipes/debug.yaml", "recipes/resnet50.yaml", "recipes/resnext50.yaml"} <= set(FILES)
    assert all(file.endswith(".yaml") for file in FILES)


@pytest.mark.parametrize("file", FILES)
def test_a_recipe_loads_from_any_folder_and_names_its_run(file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_recipe(ROOT / file).run.name == Path(file).stem


@pytest.mark.parametrize("file", FILES)
def test_a_recipe_opens_with_its_schema_what_it_is_and_its_command(file):
    header = (ROOT / file).read_text().splitlines()
    header = header[: next(n for n, line in enumerate(header) if not line.startswith("#"))]
    schema = re.fullmatch(r"# yaml-language-server: \$schema=(\S+)", header[0])
    assert schema
    assert ((ROOT / file).parent / schema[1]).resolve() == ROOT / "recipes/schema.json"
    assert re.match(r"# [A-Z].{20,}", header[1])
    assert any(line.startswith(f"#   python train.py {file}") for line in header), f"no line '#   python train.py {file} ...'"


@pytest.mark.parametrize("file", [file for file in FILES if file != "recipes/base.yaml"])
def test_a_recipe_says_only_what_differs_from_its_base(file):
    own = content(file)
    base = own.pop("base")
    inherited = load_recipe((ROOT / file).parent / base).model_dump(mode="json")
    for section, items in own.items():
        same = items == inherited[section] if section == "seed" else [key for key in items if items[key] == inherited[section][key]]
        assert not same, f"{section}: {same} stand in {base} already"


def test_an_ablation_is_under_ten_lines():
    ablations = [file for file in FILES if file.startswith("recipes/ablations/")]
    assert [file for file in ablations if len((ROOT / file).read_text().splitlines()) >= 10] == []


def test_no_two_recipes_share_a_run_folder():
    names = [Path(file).stem for file in FILES]
    assert sorted(set(names)) == sorted(names)


def test_base_states_every_key_in_order_at_its_default():
    assert keys_of(content("recipes/base.yaml")) == all_keys()
    assert load_recipe(ROOT / "recipes/base.yaml", ["run.name=x"]) == Recipe.model_validate({"run": {"name": "x"}})


def test_base_is_the_reports_best_setting():
    recipe = load_recipe(ROOT / "recipes/base.yaml")  # MISSION: sections 2-4 of the report
    assert recipe.seed == 118
    assert (recipe.model.name, recipe.model.cbam_stages, recipe.model.cbam_reduction, recipe.model.cbam_kernel) == (
        "resnext101_32x8d_cbam",
        (4,),
        16,
        7,
    )
    assert (recipe.model.pretrained, recipe.model.cbam_init, recipe.model.drop_layer3, recipe.model.drop_rate) == (True, "paper", 0.2, 0.5)
    assert (recipe.freeze.stages, recipe.freeze.bn) == (("layer1", "layer2"), "train")
    assert (recipe.mixup.alpha, recipe.mixup.prob, recipe.loss.label_smoothing) == (0.2, 0.5, 0.0)
    assert (recipe.data.batch_size, recipe.train.epochs, recipe.train.grad_accum) == (32, 50, 1)
    assert (recipe.optim.name, recipe.optim.lr, recipe.optim.betas, recipe.optim.weight_decay) == ("adamw", 1e-4, (0.9, 0.96), 0.045)
    assert recipe.optim.decay_norm_bias
    assert (recipe.sched.name, recipe.sched.factor, recipe.sched.patience, recipe.sched.min_lr) == ("plateau", 0.1, 3, 1e-6)
    assert (recipe.aug.fit, recipe.aug.scale, recipe.aug.hflip, recipe.aug.rotation) == ("squash", (0.8, 1.0), 0.5, 15.0)
    assert recipe.aug.ratio == pytest.approx((3 / 4, 4 / 3), abs=0)
    assert (recipe.aug.brightness, recipe.aug.contrast, recipe.aug.saturation, recipe.aug.hue) == (0.2, 0.2, 0.2, 0.2)
    aug = resolve(recipe)[0].aug
    assert (aug.size, aug.crop_pct, aug.interpolation) == (224, 1.0, "bilinear")
    assert (aug.mean, aug.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


# --------------------------------------------------------------------------------------------------------------- schema


def accepts(parsed: dict[str, Any]) -> bool:
    return jsonschema.Draft202012Validator(SCHEMA).is_valid(parsed)


def test_the_schema_is_up_to_date():
    printed = subprocess.run([sys.executable, "-m", "hw1", "schema"], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    assert (ROOT / "recipes/schema.json").read_text() == printed.stdout, "make format writes it anew"


def test_the_schema_is_one():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"


def test_the_schema_knows_every_key_and_describes_it():
    found = []
    for name, item in SCHEMA["properties"].items():
        section = SCHEMA["$defs"][item["$ref"].rpartition("/")[2]] if "$ref" in item else {}
        found += [name, *(f"{name}.{key}" for key in section.get("properties", {}))]
        for key, described in [(name, item)] if not section else section["properties"].items():
            assert len(described["description"]) > 5, key
            assert "default" in described or key == "base", key
    assert found == ["base", *all_keys()]


@pytest.mark.parametrize("file", FILES)
def test_the_schema_accepts_the_recipes(file):
    jsonschema.Draft202012Validator(SCHEMA).validate(content(file))


@pytest.mark.parametrize(
    "wrong",
    [
        {"mixop": {}},
        {"mixup": {"alfa": 1}},
        {"model": {"head": {}}},
        {"seed": "1"},
        {"seed": -1},
        {"seed": True},
        {"optim": {"lr": 0}},
        {"optim": {"name": "adamx"}},
        {"aug": {"scale": [0.8]}},
        {"model": {"cbam_stages": [5]}},
        {"mixup": 3},
        {"base": 3},
        {"run": {"name": "a/b"}},
    ],
)
def test_the_schema_refuses_what_the_loader_refuses(wrong):
    assert not accepts(wrong)
    assert accepts({})
