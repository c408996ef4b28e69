"""The sweep of docs/guide/wandb.md, carried out by wandb's own agent; only the server's answers are made up."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from helpers.paths import ROOT
from helpers.train_commands import write_recipe
from helpers.wandb_files import Recorded
from wandb.sdk.launch.sweeps.utils import create_sweep_command_args

from hw1.commands.train import parse
from hw1.config.load import load_recipe
from hw1.data.synthetic import draw_shapes
from hw1.runs.folder import RunFolder

GUIDE = ROOT / "docs/guide/wandb.md"
VALUES = {"optim.lr": {"value": 0.003}, "mixup.alpha": {"value": 0.4}, "model.drop_rate": {"value": 0.0}}

AGENT = """
import json, multiprocessing, os, sys
import wandb
from wandb.apis.public import sweeps
from wandb.wandb_agent import Agent

config, commands = open(sys.argv[1]).read(), json.load(open(sys.argv[2]))

def heartbeat(api, agent_id, metrics, running):
    return [] if running else [commands.pop(0)] if commands else [{"type": "exit"}]

sweeps._sweep_with_runs = lambda *arguments: {"config": config}
sweeps._register_agent = lambda *arguments, **named: {"id": "agent"}
sweeps._agent_heartbeat = heartbeat
wandb.Api = lambda *arguments, **named: None
os.environ["WANDB_SWEEP_ID"] = "sweep1"  # as `wandb agent` sets it
Agent.POLL_INTERVAL = 0.2
Agent(None, multiprocessing.Queue(), sweep_id="sweep1").run()
"""


def sweep() -> str:
    """The file of the guide."""
    (block,) = re.findall(r"```yaml\n(# sweep\.yaml\n.*?)```", GUIDE.read_text(), re.DOTALL)
    return str(block)


@pytest.mark.parametrize("form", ["args", "args_no_hyphens"])
def test_both_forms_in_which_an_agent_writes_settings_are_understood(form: str) -> None:
    typed = create_sweep_command_args({"args": VALUES})[form]
    args = parse(["recipes/finetune.yaml", *typed])
    recipe = load_recipe(ROOT / "recipes/finetune.yaml", args.overrides)
    assert (recipe.optim.lr, recipe.mixup.alpha, recipe.model.drop_rate) == (0.003, 0.4, 0.0)


def test_the_parameters_of_the_guide_are_keys_of_the_recipe_and_its_metric_is_recorded() -> None:
    config = yaml.safe_load(sweep())
    for key, spread in config["parameters"].items():
        for value in spread.get("values", [spread.get("min"), spread.get("max")]):
            load_recipe(ROOT / "recipes/finetune.yaml", [f"{key}={value}"])
    assert config["metric"] == {"name": "val/top1", "goal": "maximize"}


@pytest.mark.long
def test_the_agent_trains_each_trial_in_a_folder_of_its_own_and_continues_it(tmp_path: Path) -> None:
    draw_shapes(tmp_path / "shapes", 1)
    recipe = write_recipe(tmp_path, tmp_path / "shapes")
    text = sweep().replace("recipes/finetune.yaml", str(recipe)).replace("data.root=FOLDER", "train.device=cpu")
    (tmp_path / "sweep.yaml").write_text(text.replace("log.wandb=online", "log.wandb=offline"))
    trials = [
        {"type": kind, "run_id": run_id, "program": "train.py", "args": {**VALUES, "train.epochs": {"value": epochs}}}
        for kind, run_id, epochs in (("run", "trial1", 1), ("resume", "trial1", 2))
    ]
    (tmp_path / "trials.json").write_text(json.dumps(trials))
    (tmp_path / "agent.py").write_text(AGENT)
    environment = {key: value for key, value in os.environ.items() if not key.startswith("WANDB_")}
    environment |= {"HOME": str(tmp_path), "WANDB_DIR": str(tmp_path), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    arguments = [sys.executable, tmp_path / "agent.py", tmp_path / "sweep.yaml", tmp_path / "trials.json"]
    result = subprocess.run(arguments, cwd=ROOT, env=environment, timeout=500, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    (folder,) = (tmp_path / "runs").iterdir()
    assert folder.name == "tiny-trial1", result.stderr  # a trial of another id has another, see test_wandb_environment.py
    run = RunFolder(folder / "seed5")
    assert len(run.read_metrics()) == 2  # it was continued
    assert run.read_recipe().optim.lr == 0.003
    parts = [Recorded(path) for path in sorted(tmp_path.glob("wandb/offline-run-*/*.wandb"))]
    assert [part.run.run_id for part in parts] == ["trial1", "trial1"]
