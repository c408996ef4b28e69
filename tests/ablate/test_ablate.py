"""Plans of runs: with a stand-in for `hw1 train`, which keeps the same run folders without torch, and once with the real one."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers.paths import ROOT
from helpers.plan_runs import STAND_IN_FILE, call, is_alive, leave_behind, recipes, runs_of, started, wait_until

from hw1.ablate.plan import PlannedRun, make_plan, seconds_left
from hw1.ablate.variants import VARIANTS, tags_of
from hw1.config.load import load_recipe
from hw1.errors import UserError
from hw1.utils.own_command import hw1_command
from hw1.utils.signals import ECHO_SECONDS

# ----------------------------------------------------------------------------------------------------------- carrying out


def test_every_recipe_runs_with_every_seed_whole_seeds_first_and_then_nothing_more(project, capfd):
    paths = recipes("a", "b")
    assert call(*paths, "optim.lr=1e-3", "run.dir=out", "--seeds", "3", "1") == 0
    assert runs_of(started()) == [("a", 3), ("b", 3), ("a", 1), ("b", 1)]
    assert [line["argv"] for line in started()][1] == ["b.yaml", "optim.lr=1e-3", "run.dir=out", "seed=3"]
    out, err = capfd.readouterr()
    assert out.endswith(f"all 4 runs are finished\nnext: {hw1_command()} report out\n")
    assert "run 2 of 4: out/b/seed3, about 6 min left" in err  # two minutes a run, as the first one shows
    assert "run 4 of 4: out/b/seed1, about 2 min left" in err
    before = {path: path.stat().st_mtime_ns for path in Path("out").rglob("*")}
    assert call(*paths, "optim.lr=1e-3", "run.dir=out", "--seeds", "3", "1") == 0
    assert len(started()) == 4
    assert {path: path.stat().st_mtime_ns for path in Path("out").rglob("*")} == before
    assert call(*paths, "optim.lr=1e-3", "run.dir=out", "--seeds", "2", "3") == 0
    assert runs_of(started()[4:]) == [("a", 2), ("b", 2)]


def test_a_failure_is_said_and_the_rest_goes_on(project, capfd):
    assert call(*recipes("fails", "crashes", "wrong", "sound"), "--seeds", "0") == 3
    assert runs_of(started()) == [("fails", 0), ("crashes", 0), ("wrong", 0), ("sound", 0)]
    assert Path("runs/sound/seed0/summary.json").is_file()
    err = capfd.readouterr().err.splitlines()
    assert err[-4:] == [
        "3 of 4 runs failed; the same command tries them again:",
        "runs/fails/seed0: exit code 3",
        "runs/crashes/seed0: killed by SIGKILL",
        "runs/wrong/seed0: exit code 2",
    ]
    assert "runs/fails/seed0: exit code 3; the others go on" in err
    assert call("fails.yaml", "sound.yaml", "--seeds", "0") == 3
    assert runs_of(started()[4:]) == [("fails", 0)]


def test_a_run_that_says_all_is_well_but_is_not_finished_has_failed(project, capfd):
    STAND_IN_FILE.write_text("def main(argv, prog): pass\n")
    assert call(*recipes("a"), "--seeds", "0") == 3
    assert "runs/a/seed0: ended, but is not finished" in capfd.readouterr().err


# ----------------------------------------------------------------------------------------------------------- mistakes

DIFFERS = [f"runs/{name}/seed1: {what}" for name in ("old", "older") for what in ("made with another recipe: optim.w", "run.name=NAME")]


@pytest.mark.parametrize(
    ("arguments", "lines"),
    [
        (["a.yaml", "b.yaml", "optim.lr=0", "mixup.alpa=1"], ["command line: mixup.alpa: unknown key", "command line: optim.lr: "]),
        (["a.yaml", "bad.yaml", "worse.yaml"], ["bad.yaml: train.epoch: unknown key", "worse.yaml: seeds: unknown key"]),
        (["a.yaml", "c.yaml"], ["c.yaml: no such recipe; nearest: "]),
        (["a.yaml", "--seeds", "x", "-1", "4294967296"], ["command line: seed: "] * 3),
        (["a.yaml", "--seeds", "0", "optim.lr=1"], ["command line: seed: must be a valid integer, got 'optim.lr=1'"]),
        (["a.yaml", "seed=3"], ["command line: seed: is what --seeds sets"]),
        (["optim.lr=1"], ["no recipe given"]),
        (["a.yaml", "b.yaml", "run.name=x"], ["b.yaml: would be written to runs/x/seed0, as a.yaml is"]),
        (["a.yaml", "b.yaml", "copy.yaml", "optim.weight_decay=0"], ["b.yaml: is the same experiment as a.yaml", "copy.yaml: is the same"]),
        (["a.yaml", "data.root=null"], ["command line: data.root: not set"]),
        (["a.yaml", "b.yaml", "data.root=nowhere"], ["command line: data.root: nowhere: no such folder"]),
        (["a.yaml", "old.yaml", "older.yaml"], [*DIFFERS, "run.dir=FOLDER carries out this plan in another folder"]),
    ],
)
def test_mistakes_are_all_named_at_once_and_nothing_starts(project, capfd, arguments, lines):
    recipes("a", "b", "old", "older")
    Path("bad.yaml").write_text("base: base.yaml\ntrain: {epoch: 3}\n")
    Path("worse.yaml").write_text("base: base.yaml\nseeds: 1\n")
    Path("copy.yaml").write_text("base: a.yaml\nrun: {dir: elsewhere}\n")
    for number, name in enumerate(("old", "older")):
        leave_behind(name, seed=1)
        Path(f"{name}.yaml").write_text(f"base: base.yaml\noptim: {{weight_decay: {number}}}\n")
    assert call(*arguments) == 2
    err = capfd.readouterr().err.splitlines()
    assert len(err) == len(lines), err
    assert all(got.startswith(line) for got, line in zip(err, lines, strict=True)), err
    assert started() == []


def test_an_override_that_undoes_a_pair_is_found_in_the_real_recipes(monkeypatch):
    """On a small model the backbones are all the same one, and with the stem frozen throughout so are two of the freezings."""
    monkeypatch.chdir(ROOT)
    paths = sorted(str(path) for path in Path("recipes/ablations").glob("*.yaml"))
    assert len(make_plan(paths, [], ["0", "1"])) == 2 * len(paths)
    with pytest.raises(UserError) as error:
        make_plan(paths, ["model.name=resnet18_cbam"], ["0"])
    same = ["backbone_resnext50", "freeze_none", "freeze_stem", "random_mixup"]
    assert [Path(line.partition(":")[0]).stem for line in error.value.problems] == [same[0], same[3]]
    rest = [path for path in paths if "backbone" not in path]
    assert len(make_plan(rest, ["model.name=resnet18_cbam"], ["0"])) == len(rest)


def test_data_that_a_run_draws_itself_need_not_be_there(project):
    assert call(*recipes("a"), "data.root=drawn", "data.generate=1", "--seeds", "0") == 0


# ---------------------------------------------------------------------------------------------------------------- plan


def test_a_dry_run_prints_the_plan_and_touches_nothing(project, capfd):
    paths = recipes("a", "b", "slow")
    assert call("a.yaml", "--seeds", "0") == 0
    leave_behind("slow", seed=0)
    (project / "data").rename(project / "moved")
    before = sorted(Path(".").rglob("*"))
    capfd.readouterr()
    assert call(*paths, "--seeds", "0", "--dry-run") == 0
    out, err = capfd.readouterr()
    assert out.splitlines() == [
        "1/3  finished  runs/a/seed0  2 of 2 epochs done",
        "2/3  start     runs/b/seed0  2 epochs",
        "    python -m hw1 train b.yaml seed=0",
        "3/3  continue  runs/slow/seed0  1 of 2 epochs done",
        "    python -m hw1 train slow.yaml seed=0",
        "3 runs: 1 finished, 1 to continue, 1 to start; about 4 min left",  # 1 epoch of 90 s, 2 of the mean 70 s: 230 s
    ]
    assert err == ""
    assert sorted(Path(".").rglob("*")) == before
    assert len(started()) == 1


def test_time_left_is_of_the_same_recipe_where_that_is_known(project):
    def planned(name: str, status: str, num_epochs: int, seconds: float, epochs: int = 10) -> PlannedRun:
        recipe = load_recipe(f"{name}.yaml", [f"train.epochs={epochs}"])
        return PlannedRun(f"{name}.yaml", (), recipe, status, num_epochs, seconds)  # type: ignore[arg-type]

    recipes("a", "b")
    known = [planned("a", "finished", 10, 100.0), planned("a", "interrupted", 2, 32.0)]  # a: 11 s an epoch
    assert seconds_left(known, known) == pytest.approx(8 * 11)
    assert seconds_left([planned("b", "new", 0, 0.0)], known) == pytest.approx(10 * 11)  # unknown: as all
    other = [*known, planned("b", "interrupted", 5, 245.0, epochs=6)]  # b: 49 s an epoch, all: 377 s for 17
    assert seconds_left(other, other) == pytest.approx(8 * 11 + 49)
    assert seconds_left([planned("a", "new", 0, 0.0)], []) is None


@pytest.mark.parametrize("name", VARIANTS)
def test_the_recipes_of_the_report_name_their_group_and_pairs_themselves(name):
    """So that `hw1 train` alone puts a run where one filter finds its pair."""
    [run] = make_plan([str(ROOT / f"recipes/ablations/{name}.yaml")], ["log.wandb=offline"], ["0"])
    assert list(run.overrides) == ["log.wandb=offline", "seed=0"]
    assert (run.recipe.log.group, run.recipe.log.tags) == ("ablation", tags_of(name))


def test_the_tags_are_one_filter_for_each_of_the_reports_five_comparisons():
    tags = {name: tags_of(name) for name in VARIANTS}
    found = {tag: {name for name in tags if tag in tags[name]} for tag in ("pair:mixup", "pair:cbam", "pair:dropout", "pair:random_mixup")}
    assert found == {
        "pair:mixup": {"plain", "mixup"},
        "pair:cbam": {"mixup", "mixup_cbam"},
        "pair:dropout": {"mixup_cbam", "mixup_cbam_dropout"},
        "pair:random_mixup": {"mixup_cbam_dropout", "random_mixup"},
    }
    assert [name for name in tags if "combined" in tags[name]] == ["mixup_cbam_dropout"]


@pytest.mark.parametrize(
    ("overrides", "labels"),
    [
        ([], []),
        (["log.wandb=offline"], ["log.group=ablation", 'log.tags=["fast"]']),
        (["log.wandb=online", "log.group=mine"], ['log.tags=["fast"]']),
        (["log.wandb=online", "log.tags=[x]"], ["log.group=ablation"]),
    ],
)
def test_other_recipes_of_a_plan_are_given_a_group_and_their_name_as_tag(overrides, labels):
    [run] = make_plan([str(ROOT / "recipes/fast.yaml")], overrides, ["0"])
    assert list(run.overrides) == [*overrides, *labels, "seed=0"]


# ------------------------------------------------------------------------------------------------------------- signals


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("to_group", [False, True], ids=["alone", "group"])
def test_a_signal_lets_the_run_save_and_the_same_command_continues(begin, signum, code, to_group):
    arguments = (*recipes("a", "slow", "z"), "--seeds", "0")
    ablation = begin(*arguments)
    ablation.wait_for_child(2)
    (os.killpg if to_group else os.kill)(ablation.process.pid, signum)  # Ctrl-C reaches the whole group
    returncode, err = ablation.end()
    assert returncode == code
    assert "interrupted in run 2 of 3; 2 are not finished, the same command continues" in err
    assert "Traceback" not in err
    assert runs_of(started()) == [("a", 0), ("slow", 0), ("slow", 0)]
    assert started()[-1]["saved"] == signal.SIGTERM
    assert call(*arguments) == 0
    assert [(line["name"], line["status"]) for line in started()[3:]] == [("slow", "interrupted"), ("z", "new")]


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_the_run_starts_up_ends_both_at_once(begin, signum):
    ablation = begin(*recipes("deaf", "z"), "--seeds", "0")
    ablation.wait_for_child()
    ablation.process.send_signal(signum)
    returncode, err = ablation.end()
    assert (returncode, "Traceback" in err) == (128 + signum, False)
    assert len(started()) == 1


def test_a_second_signal_ends_the_run_at_once(begin):
    ablation = begin(*recipes("stubborn"), "--seeds", "0")
    pid = ablation.wait_for_child()
    ablation.process.send_signal(signal.SIGINT)
    time.sleep(ECHO_SECONDS + 0.3)
    assert is_alive(pid)
    assert ablation.process.poll() is None
    ablation.process.send_signal(signal.SIGINT)
    assert ablation.end()[0] == 130


def test_killed_outright_it_leaves_no_orphan_and_the_run_saves(begin):
    ablation = begin(*recipes("slow"), "--seeds", "0")
    pid = ablation.wait_for_child()
    ablation.process.kill()
    ablation.end()
    wait_until(lambda: not is_alive(pid))
    assert started()[-1]["saved"] == signal.SIGTERM
    assert call("slow.yaml", "--seeds", "0") == 0


def test_with_the_real_training_a_run_is_interrupted_and_continued(tmp_path):
    """Twice the real thing: from the first epoch on until a signal comes, then to its end."""
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(
        f"base: {ROOT / 'recipes/debug.yaml'}\nrun: {{dir: {tmp_path / 'runs'}}}\ndata: {{root: {tmp_path / 'data'}}}\n"
        "model: {name: resnet18_half_cbam}\ntrain: {device: cpu}\n"
    )
    command = [sys.executable, "-m", "hw1.ablate", str(recipe)]
    folder = tmp_path / "runs" / "tiny" / "seed7"
    process = subprocess.Popen([*command, "train.epochs=500", "--seeds", "7"], cwd=ROOT, stderr=subprocess.PIPE, text=True)
    wait_until(lambda: (folder / "metrics.jsonl").is_file() or process.poll() is not None, 500)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "the same command continues it" in err
    done = len((folder / "metrics.jsonl").read_text().splitlines())
    result = subprocess.run(
        [*command, f"train.epochs={done + 1}", "--seeds", "7"], cwd=ROOT, capture_output=True, text=True, timeout=500, check=False
    )
    assert result.returncode == 0, result.stderr
    assert f"continues in epoch {done + 1}" in result.stderr or f"continues in epoch {done}" in result.stderr
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == list(range(1, done + 2))
    assert json.loads((folder / "summary.json").read_text())["epochs"] == done + 1
