"""The benchmarks of training and evaluation: all train the same model, ratios and limits are right, what was measured is on disk."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from helpers.paths import ROOT
from torch import nn
from torch.nn import functional as F

import benchmarks.epoch
import benchmarks.gpu
import benchmarks.inference
import benchmarks.train_step
from benchmarks.common.memory import peak_mebibytes
from benchmarks.training import check, epoch_measure, gpu_parts, growth, measure, ours, peers, timm_script
from benchmarks.training.case import Case, make_batches, parse_case, with_weights
from benchmarks.training.curves import distance, smooth
from benchmarks.training.loops import LABELS, build_loop, is_compiled, match
from benchmarks.training.own_process import OwnProcess
from benchmarks.training.roofline import Norm, Rates, analyse, analyse_case
from benchmarks.training.same import first_loss
from benchmarks.training.tables import target_lines
from benchmarks.training.turns import LoopTurn, compare, time_turns
from hw1.errors import RunError, UserError, run_command

pytestmark = pytest.mark.slow
CPU = torch.device("cpu")
TINY = "resnet18_half_cbam:32:10"
AMP = {"fp32": "off", "bf16": "bf16"}
"""`train.amp` of a precision: what a test says of `auto` does not reach other processes."""
EAGER = [key for key in LABELS if not is_compiled(key) and "graph" not in key]


@pytest.fixture(scope="module")
def case():
    """The tiny case, with weights."""
    with with_weights(parse_case(TINY)) as ready:
        yield ready


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    """No photographs, small images, few steps, FP32 unless the test has `precision`; and a model is not tried on the meta device every
    time that it is built."""
    monkeypatch.setattr("hw1.runtime.device._computes_bf16", lambda device: False)
    monkeypatch.delenv("HW1_PHOTOS", raising=False)
    monkeypatch.setattr("hw1.models.factory.check_model", lambda *arguments, **options: [])
    monkeypatch.setattr(epoch_measure, "SIDE", 32)
    monkeypatch.setattr(check, "REPEATS", 2)


def run(command, *argv: str) -> dict:
    """Runs a command of its own in this process; returns its result file, which must hold no folder of this machine."""
    out = Path("out/result.json")
    assert run_command(command, [*argv, "--device", "cpu", "--out", str(out)]) == 0
    text = out.read_text()
    assert [name for name in (str(Path.home()), "/tmp", str(ROOT)) if name in text] == []
    result = json.loads(text)
    assert result["complete"]
    assert result["machine"]["threads"] == torch.get_num_threads()
    assert {"started", "git", "packages", "load_before", "cpu"} <= result["machine"].keys()
    return result


# ------------------------------------------------------------------------------------------------ what is compared


def test_every_loop_computes_the_same_loss_and_trains_the_same_parameters(case, precision):
    """In bf16 but for the report's loop, which has no autocast."""
    losses, trained, tolerance = {}, {}, {"fp32": 1e-4, "bf16": 4e-3}[precision]
    for key in EAGER:
        loop = build_loop(key, case, CPU)
        batch = make_batches(case, CPU, channels_last=loop.channels_last)[0]
        before = {name: value.clone() for name, value in loop.model.state_dict().items()}
        losses[key] = loop.first_loss(batch)
        assert all(torch.equal(before[name], value) for name, value in loop.model.state_dict().items())
        loop.begin()
        loop.step(batch)
        trained[key] = {name for name, value in loop.model.named_parameters() if not torch.equal(before[name], value)}
    groups = [[key for key in EAGER if measure.freezing_of(key) == freezing] for freezing in ours.FREEZING]
    for group in groups:
        assert [losses[key] for key in group] == pytest.approx([losses[group[0]]] * len(group), rel=tolerance)
        assert [trained[key] for key in group] == [trained[group[0]]] * len(group)
    first, second = (losses[group[0]] for group in groups)
    assert abs(first - second) > tolerance * first  # so that the comparison can tell recipes apart
    assert {name for name in trained["report"] if name.startswith("conv1")}
    assert not {name for name in trained["fast/nhwc"] if name.startswith(("conv1", "bn1", "layer1", "layer2"))}


def test_the_loss_is_cross_entropy_without_dropout(case, precision):
    loop = build_loop("faithful/nchw", case, CPU)
    batch = make_batches(case, CPU, channels_last=False)[0]
    model = timm.create_model(case.model, num_classes=100, checkpoint_path=str(case.weights)).train()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        logits = model(batch.image).float()
    assert logits.equal(logits.bfloat16().float()) == (precision == "bf16")
    expected = float(F.cross_entropy(logits, batch.label))
    assert loop.first_loss(batch) == pytest.approx(expected, rel={"fp32": 1e-5, "bf16": 1e-3}[precision])
    assert loop.model.drop_rate == 0.5
    assert {module.p for module in loop.model.modules() if isinstance(module, nn.Dropout)} == {0.2}


def test_the_weights_give_every_parameter_a_gradient(case):
    """A new ResNet's residual branches are multiplied by zero: their gradients would be too, and a check of them empty."""
    gradients = check.plain_gradients(case, "faithful", make_batches(case, CPU, channels_last=False)[0], CPU, None)
    assert min(float(gradient.norm()) for gradient in gradients.values()) > 1e-6


def test_a_loop_that_computes_something_else_is_not_timed(case, monkeypatch, precision):
    changes = {"fp32": lambda model: model.eval(), "bf16": lambda model: nn.init.normal_(model.get_classifier().weight)}
    monkeypatch.setattr(peers, "set_train_mode", lambda model, config: changes[precision](model))
    bench = measure.CaseBench(case, ["faithful/nhwc", "timm/nhwc"], CPU, measure.Amounts(1, 0.0, 1, own_processes=False), lambda: None)
    bench.run()
    assert set(bench.block["results"]) == {"faithful/nhwc"}
    assert "its first loss is" in bench.block["failed"]["timm/nhwc"]


def test_a_variant_whose_compiler_fails_is_not_timed_as_compiled(case, monkeypatch):
    """A training goes on without it."""

    def fail(images):
        raise RuntimeError("no C compiler")

    monkeypatch.setattr(torch, "compile", lambda function, **options: fail)
    bench = measure.CaseBench(
        case, ["faithful/compiled", "faithful/nhwc"], CPU, measure.Amounts(1, 0.0, 1, own_processes=False), lambda: None
    )
    bench.run()
    assert set(bench.block["results"]) == {"faithful/nhwc"}
    assert bench.block["failed"] == {"faithful/compiled": "ValueError: it was not compiled"}


def test_a_batch_that_is_mixed_in_place_is_the_loops_own(case):
    bench = measure.CaseBench(case, ["timm/nhwc", "faithful/nhwc"], CPU, measure.Amounts(1, 0.0, 4, own_processes=False), lambda: None)
    bench.build()
    own, others = (torch.stack([batch.image for batch in bench.turns[key].ask("batches")]) for key in ("timm/nhwc", "faithful/nhwc"))
    assert torch.equal(others, torch.stack([batch.image for batch in make_batches(case, CPU, channels_last=True)]))
    assert not torch.equal(own, others)


def test_on_a_cpu_each_loop_has_a_process_of_its_own(case):
    bench = measure.CaseBench(replace(case, amp="off"), ["faithful/nhwc", "report"], CPU, measure.Amounts(1, 0.0, 1), lambda: None)
    bench.run()
    assert bench.block["first_loss"]["report"] == pytest.approx(LoopTurn("report", case, CPU).first_loss, rel=1e-6)
    assert set(bench.block["results"]) == {"faithful/nhwc", "report"}
    assert min(peak["resident"] for peak in bench.block["memory_mib"].values()) > 5
    folders = [Path(f"/proc/{pid}") for turn in bench.turns.values() for pid in turn._process._processes]
    assert len({os.getpid(), *(int(folder.name) for folder in folders if folder.exists())}) == 3
    bench.close()
    assert not any(folder.exists() for folder in folders)


def test_what_fails_in_a_process_of_its_own_is_raised_here(case):
    with pytest.raises(UserError, match="MODEL:SIZE:BATCH"):
        OwnProcess(parse_case, "resnet18")
    process = OwnProcess(Path, "folder")
    with pytest.raises(BrokenProcessPool):
        process.ask("joinpath", _Deadly())
    process.close()


PARENT = """
import time
from pathlib import Path
from benchmarks.training.own_process import OwnProcess

process = OwnProcess(Path, "folder")
print(*process._process._processes, flush=True)
time.sleep(600)
"""


def test_a_process_of_its_own_ends_with_the_one_that_asks():
    parent = subprocess.Popen([sys.executable, "-c", PARENT], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    worker = Path("/proc", parent.stdout.readline().strip())
    assert worker.is_dir()
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 30
    while worker.is_dir() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not worker.is_dir()


class _Deadly:
    """Ends the process in which it is unpickled."""

    def __reduce__(self) -> tuple[Callable[..., None], tuple[int]]:
        return os._exit, (1,)


@pytest.mark.parametrize(
    ("text", "message"), [("resnet18", "MODEL:SIZE:BATCH"), ("resnet18:a:8", "reads"), ("resnet18_cbm:32:8", "nearest")]
)
def test_a_case_that_cannot_be_is_the_users_mistake(text, message):
    with pytest.raises(UserError, match=message):
        parse_case(text)


def test_a_pattern_that_names_nothing_is_the_users_mistake():
    assert match("--loop", ["timm/n*", "report"], list(LABELS)) == ["timm/nchw", "timm/nhwc", "report"]
    with pytest.raises(UserError, match="--loop tim: names none of"):
        match("--loop", ["tim"], list(LABELS))


# ------------------------------------------------------------------------------------------------ rates and ratios


def test_ratios_are_medians_of_ratios_within_a_round():
    rates = {"ours": [20.0, 10.0, 36.0], "report": [10.0, 4.0, 12.0], "timm/nhwc": [10.0, 4.0, 24.0], "timm/nchw": [1.0, 1.0, 1.0]}
    assert measure.named_peers(rates) == {"report": "report", "timm": "timm/nhwc"}
    row = compare(rates, measure.named_peers(rates))["ours"]
    assert (row["median"], row["quartiles"]) == (20.0, (15.0, 28.0))
    assert row["ratios"]["report"] == {"to": "report", "ratio": 2.5, "quartiles": (2.25, 2.75)}  # of 2, 2.5 and 3; of medians 2
    assert row["ratios"]["timm"]["ratio"] == 2.0  # of 2, 2.5 and 1.5


def test_targets_take_the_fastest_variant_of_each_recipe():
    rates = {"faithful/nchw": [9.0], "faithful/nhwc": [12.0], "fast/nhwc": [20.0], "timm/nhwc": [10.0], "timm-fast/nhwc": [25.0]}
    found = measure.targets_of({"results": compare(rates, measure.named_peers(rates))}, is_cuda=False)
    assert [(row["needed"], row["measured"], row["met"]) for row in found] == [(1.1, 1.2, True), (1.4, 2.0, True), (1.1, 0.8, False)]
    assert "channels_last" in found[0]["claim"]


def test_a_missed_ratio_is_excused_only_where_the_roofline_leaves_nothing():
    rates = {"faithful/nhwc": [9.0], "fast/nhwc": [10.0], "timm/nhwc": [10.0], "timm-fast/nhwc": [10.0]}
    limits = {"faithful": {"images_per_second": {"folded": 10.0}}, "fast": {"images_per_second": {"folded": 20.0}}}
    block = {"results": compare(rates, measure.named_peers(rates)), "roofline": limits}
    block["roofline_share"] = measure.roofline_shares(block)
    assert block["roofline_share"] == {"faithful": 0.9, "fast": 0.5}
    faithful, fast, _ = measure.targets_of(block, is_cuda=False)
    assert (faithful["met"], faithful["roofline_share"], fast["met"]) == (True, 0.9, False)
    said = target_lines([faithful])[0]
    assert "missed, at 90% of the roofline" in said


def test_of_two_measurements_each_better_rate_counts():
    assert Rates(3.0, 10.0).or_better(Rates(5.0, 7.0)) == Rates(5.0, 10.0)


def test_a_case_may_name_its_precision():
    assert parse_case(TINY).amp == "auto"
    case = parse_case(f"{TINY}:off")
    assert case.dtype(CPU) is torch.float32
    assert case.describe()["amp"] == "off"
    with pytest.raises(UserError, match=r"train.amp"):
        parse_case(f"{TINY}:half")


def test_loops_take_turns_until_the_time_is_over():
    now, calls, seen = [0.0], [], []

    def turn(key: str, seconds: float) -> int:
        calls.append(key)
        now[0] += seconds
        return 10

    turns = {"a": lambda: turn("a", 1.0), "b": lambda: turn("b", 2.0)}
    rates = time_turns(turns, rounds=9, until=8.0, clock=lambda: now[0], after=lambda rates: seen.append(len(rates["a"])))
    assert rates == {"a": [10.0] * 3, "b": [5.0] * 3}
    assert [sorted(calls[at : at + 2]) for at in (0, 2, 4)] == [["a", "b"]] * 3
    assert seen == [1, 2, 3]


def test_memory_is_measured_in_a_new_process_too():
    assert 60 < peak_mebibytes(partial(np.ones, 8 * 2**20), method="spawn") < 80


# ------------------------------------------------------------------------------------------------ the roofline


def test_the_roofline_of_two_convolutions_by_hand():
    """conv 3 to 8 (trained), BatchNorm, frozen 1x1 conv 8 to 4, on two images of 4 x 4, numbers of two bytes."""
    with torch.device("meta"):
        model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.Conv2d(8, 4, 1, bias=False))
    model[2].weight.requires_grad_(False)
    step = analyse(model, (2, 3, 4, 4))
    first, second = 2 * (2 * 8 * 16) * 27, 2 * (2 * 4 * 16) * 8
    found = {(op.name, op.kind): (op.flop, op.bytes) for op in step.operations}
    moved = {"0": 2 * (96 + 216 + 256), "2": 2 * (256 + 32 + 128)}
    assert found == {
        ("0", "forward"): (first, moved["0"]),
        ("0", "wgrad"): (first, moved["0"]),
        ("2", "forward"): (second, moved["2"]),
        ("2", "dgrad"): (second, moved["2"]),
    }
    assert step.norms == [Norm("1", eager=(3 + 2 + 5 + 3) * 512.0, fused=(3 + 5) * 512.0, folded=(3 + 5) * 512.0)]
    assert step.optimizer_bytes == (216 + 16) * 28 + (216 + 32) * 6
    rates = Rates(flops=1000.0, bytes=500.0)  # the first convolution is bound by arithmetic, the second by memory
    seconds = 2 * first / 1000 + 2 * max(second / 1000, moved["2"] / 500) + step.optimizer_bytes / 500 + 8 * 512 / 500
    assert step.limits(rates)["fused"] == pytest.approx(2 / seconds)


def test_a_frozen_batchnorm_before_anything_trained_can_be_folded():
    with torch.device("meta"):
        model = nn.Sequential(nn.Conv2d(3, 4, 1, bias=False), nn.BatchNorm2d(4).eval(), nn.Conv2d(4, 4, 1, bias=False))
    model[0].requires_grad_(False)
    model[1].requires_grad_(False)
    norm = analyse(model, (1, 3, 2, 2)).norms[0]
    assert (norm.fused, norm.folded) == (3 * 32.0, 0.0)


def test_the_roofline_of_the_reports_model_is_the_known_one():
    """Figures of other arithmetic: 16.41 GMAC, 91.3 GFLOP, and images/s at 790 TFLOP/s and 4.3 TB/s with batch 32."""
    big, rates = Case("resnext101_32x8d_cbam", 224, 32), Rates(790e12, 4.3e12)
    faithful, fast = (analyse_case(big, freezing) for freezing in ours.FREEZING)
    assert faithful.forward_macs / 1e9 == pytest.approx(16.41, abs=0.01)
    assert faithful.flop / 1e9 == pytest.approx(91.3, abs=0.1)
    limits = {name: (faithful.limits(rates)[name], fast.limits(rates)[name]) for name in ("eager", "fused")}
    assert limits == {"eager": pytest.approx((2750, 3500), rel=0.01), "fused": pytest.approx((3560, 4440), rel=0.01)}
    assert fast.limits(rates)["folded"] > limits["fused"][1]


# ------------------------------------------------------------------------------------------------ correctness


def test_the_check_sees_a_variant_that_trains_on_something_else(case, monkeypatch, precision):
    """What that is must be off by more than rounding: in bf16 that is a third of the gradient."""
    step, factor = ours.OurLoop.step, {"fp32": 1.05, "bf16": 0.01}[precision]

    def on_others(self, batch) -> None:
        step(self, batch._replace(image=batch.image * factor) if self.channels_last else batch)

    monkeypatch.setattr(ours.OurLoop, "step", on_others)
    blocks: list[dict] = []
    check.check_case(case, ["fast/nchw", "fast/nhwc"], CPU, 4, blocks, lambda: None)
    right, wrong = blocks[0]["gradients"]["fast/nchw"], blocks[0]["gradients"]["fast/nhwc"]
    assert [part["images"] for part in right] == [10, 7]
    assert [part["met"] for part in right + wrong] == [True, True, False, False]
    assert right[0]["count"] == sum(p.requires_grad for p in build_loop("fast/nchw", case, CPU).model.parameters())
    assert all("fast/nhwc" in line for line in check.verdict(blocks))
    assert check.verdict(blocks)


def test_errors_of_gradients_by_hand():
    found = check.errors(
        {"a": torch.tensor([3.0, 4.0]), "b": torch.tensor([1.1])}, {"a": torch.tensor([3.0, 4.0]), "b": torch.tensor([1.0])}
    )
    assert found == {"overall": pytest.approx(0.1 / math.sqrt(26), rel=0.01), "worst": 0.1, "worst_parameter": "b", "count": 2}


def test_the_distance_of_curves_by_hand():
    plain = np.linspace(4.0, 2.0, 30).tolist()
    assert distance(plain, plain) == 0.0
    assert distance([loss + 0.2 for loss in plain], plain) == pytest.approx(0.05)
    assert len(smooth(plain)) == 21


# ------------------------------------------------------------------------------------------------ the commands


def test_train_step_writes_what_it_measured(folder, capsys, monkeypatch, precision):
    monkeypatch.setattr(growth, "MODELS", ("resnet18_half_cbam",))
    monkeypatch.setattr(growth, "SIZES", (48,))
    monkeypatch.setattr(growth, "BATCHES", (4,))
    loops = [word for key in ("faithful/nhwc", "faithful/graph", "timm/nhwc") for word in ("--loop", key)]
    amp = AMP[precision]
    result = run(benchmarks.train_step.main, "--case", f"{TINY}:{amp}", *loops, "--quick", "--growth")
    block = result["cases"][0]
    assert block["case"] == {"model": "resnet18_half_cbam", "size": 32, "batch": 10, "amp": amp}
    assert 0 < block["roofline_share"]["faithful"] < 1
    assert set(block["results"]) == {"faithful/nhwc", "timm/nhwc"} == set(block["warmup_seconds"])
    assert block["left_out"] == {"faithful/graph": "no CUDA device"}
    for row in block["results"].values():
        ratios = np.divide(row["images_per_second"], block["results"]["timm/nhwc"]["images_per_second"])
        assert row["ratios"]["timm"]["ratio"] == pytest.approx(np.median(ratios), rel=0.01)
    assert [len(result["growth"][name]) for name in ("batch", "size", "model", "data_set")] == [1, 1, 1, 1]
    assert result["growth"]["data_set"][0]["seconds"].keys() == {"open", "again", "first_batch"}
    for name in ("result.png", "result_growth.png"):
        assert Path("out", name).read_bytes().startswith(b"\x89PNG")
    assert block["targets"][0]["needed"] == 1.1
    capsys.readouterr()
    assert run_command(benchmarks.train_step.main, ["--markdown", "out/result.json"]) == 0
    table = capsys.readouterr().out
    assert f"| {block['results']['faithful/nhwc']['ratios']['timm']['ratio']:.2f} |" in table
    assert "not measured, no CUDA device" in table
    assert "images/s by batch size" in table


def test_train_step_checks(folder, capsys, precision):
    result = run(benchmarks.train_step.main, "--check", "--case", TINY, "--loop", "faithful/nhwc", "--steps", "4")
    block = result["checks"][0]
    assert [part["met"] for part in block["gradients"]["faithful/nhwc"]] == [True, True]
    assert {len(losses) for losses in block["curves"]["losses"].values()} == {4}
    assert block["curves"]["differences"]["faithful/nhwc"]["met"]
    assert block["same_bits"] == {"faithful/nhwc": True}
    assert "| yes | yes |" in capsys.readouterr().out
    assert Path("out/result.png").is_file()


def test_inference_writes_what_it_measured(folder, capsys, precision):
    ways = [word for key in ("hw1", "plain", "timm/nhwc") for word in ("--way", key)]
    sizes = ("--batch", "1", "--batch", "4")
    case = f"resnet18_half_cbam:32:{AMP[precision]}"
    result = run(benchmarks.inference.main, "--case", case, *sizes, *ways, "--images", "4", "--rounds", "2")
    assert [block["case"]["batch"] for block in result["sizes"]] == [1, 4]
    for block in result["sizes"]:
        assert block["failed"] == {}
        assert set(block["results"]) == {"hw1", "plain", "timm/nhwc"}
        assert block["results"]["hw1"]["ratios"].keys() == {"timm", "plain"}
        assert min(peak["resident"] for peak in block["memory_mib"].values()) > 1
    assert result["targets"][0]["needed"] == 1.0
    assert "images/s by batch size | 1 | 4 |" in capsys.readouterr().out


def test_an_epoch_is_measured_beside_its_step_and_timms_own_script(folder, capsys):
    Path("checkout").mkdir()
    script = "import sys\nopen('words.txt', 'w').write(' '.join(sys.argv[1:]))  # --device-modules\n"
    for epoch, rate in ((0, "10.00"), (1, "21.50")):
        line = f"Train: {epoch} [   9/10 (100%)]  Loss: 4.61 (4.62)  Time: 0.3s,   33.00/s  (0.465s,   {rate}/s)  LR: 1.000e-04"
        script += f"print({line!r})\n"
    Path("checkout/train.py").write_text(script)
    loops = ("--loop", "faithful/nhwc", "--loop", "timm/nhwc")
    options = ("--case", "resnet18_half_cbam:32:20", "--images", "100", "--workers", "0", "--rounds", "1", "--timm", "checkout")
    result = run(benchmarks.epoch.main, *options, *loops)
    block = result["epoch"]
    assert (block["images"], block["workers"], block["failed"]) == (100, 0, {})
    ours_row, step = block["results"]["faithful/nhwc"], block["results"]["step of faithful/nhwc"]
    assert ours_row["of_step"] == pytest.approx(ours_row["median"] / step["median"], rel=0.01)
    assert 0 <= ours_row["wait"] <= 1
    assert ours_row["report_minutes"] == pytest.approx(50 * 20_700 / ours_row["median"] / 60, rel=0.01)
    assert "timm" in ours_row["ratios"]
    assert block["timm_script"]["flags"] == {"nhwc": 21.5}
    assert block["timm_script"]["ratio"] == pytest.approx(block["timm_script"]["hw1_unfrozen"][0] / 21.5, rel=0.01)
    assert "waiting for data" in capsys.readouterr().out


def test_timms_script_is_told_what_the_recipe_says(case, tmp_path, precision):
    files = epoch_measure.Files(tmp_path / "pictures", 3)
    words = timm_script.arguments(case, files, CPU, "compiled", tmp_path / "output")
    text = " ".join(words)
    for part in ("--model resnet18_half_cbam", "--mixup 0.2 --mixup-prob 0.5", "--workers 3", "--opt-betas 0.9 0.96", "--batch-size 10"):
        assert part in text
    amp = {"fp32": "", "bf16": "--amp --amp-dtype bfloat16 "}[precision]
    assert f"--channels-last {amp}--torchcompile" in text
    with pytest.raises(UserError, match="no checkout of timm"):
        timm_script.find_script(tmp_path)
    with pytest.raises(RunError, match="printed no rate"):
        timm_script.parse_rate("Train: 0 [ nothing")


# ------------------------------------------------------------------------------------------------ everything at once


GPU = (
    f"--tiny --case resnet18_half_cbam:32:20 --check-case {TINY} --batch 24 --loop fast/nhwc --loop timm/nhwc --loop faithful/graph".split()
)


def test_gpu_runs_every_part_on_the_cpu_in_a_small_form(folder, capsys, precision):
    result = run(benchmarks.gpu.main, *GPU)
    assert result["failed_parts"] == []
    assert set(result["seconds"]) == set(gpu_parts.PARTS) == set(benchmarks.gpu.NAMES)
    assert result["card"]["copy_gigabytes_per_second"] > 0
    assert result["roofline"]["faithful"]["images_per_second"]["fused"] > 0
    assert result["steps"]["left_out"] == {"faithful/graph": "no CUDA device"}
    assert set(result["steps"]["results"]) == {"fast/nhwc", "timm/nhwc"}
    assert {key: len(rows) for key, rows in result["kernels"].items()} == {"fast/nhwc": 10}
    assert {row["stage"] for row in result["layouts"]["convolutions"]} == {"stem", "layer1", "layer2", "layer3", "layer4"}
    assert [block["case"]["batch"] for block in result["batches"]] == [24]
    assert result["epoch"]["results"]["fast/nhwc"]["report_minutes"] > 0
    assert [block["case"]["batch"] for block in result["sizes"]] == [20, 24]
    assert result["summary"]["best"]["fast"]["of_fused_roofline"] > 0
    assert all(part["met"] for part in result["checks"][0]["gradients"]["fast/nhwc"])
    assert Path("out/result.png").is_file()
    table = capsys.readouterr().out
    for text in ("GB/s copied", "share of the roofline", "most expensive kernels", "NCHW / NHWC", "waiting for data", "Gradients and loss"):
        assert text in table


def test_what_was_measured_before_the_time_was_over_is_on_disk(folder, capsys, monkeypatch):
    def last_too_long(run, until) -> None:
        """What the timer does when the minutes are over; a part may catch any Exception."""
        with suppress(Exception):
            signal.raise_signal(signal.SIGALRM)

    monkeypatch.setitem(gpu_parts.PARTS, "layouts", (last_too_long, 1.0))
    argv = [*GPU, "--part", "card", "layouts", "epoch", "--device", "cpu", "--out", "result.json"]
    assert run_command(benchmarks.gpu.main, argv) == 3
    assert signal.getsignal(signal.SIGALRM) is signal.SIG_DFL
    assert "layouts: cut off" in capsys.readouterr().err
    result = json.loads(Path("result.json").read_bytes())
    assert not result["complete"]
    assert "card" in result
    assert "epoch" not in result
    assert run_command(benchmarks.gpu.main, ["--markdown", "result.json"]) == 0
    assert "was cut off" in capsys.readouterr().out


def test_a_part_that_fails_does_not_stop_the_others(folder, capsys, monkeypatch):
    def fail(run, until) -> None:
        raise ValueError("no such kernel")

    monkeypatch.setitem(gpu_parts.PARTS, "card", (fail, 1.0))
    argv = [*GPU, "--part", "card", "layouts", "--device", "cpu", "--out", "result.json"]
    assert run_command(benchmarks.gpu.main, argv) == 3
    result = json.loads(Path("result.json").read_bytes())
    assert result["failed_parts"] == ["card: ValueError: no such kernel"]
    assert result["layouts"]["convolutions"]


def test_a_result_that_cannot_be_written_is_said_before_anything_is_measured(folder, capsys):
    Path("file").write_text("")
    assert run_command(benchmarks.inference.main, ["--device", "cpu", "--out", "file/result.json"]) in (2, 3)
    assert "file" in capsys.readouterr().err


def test_no_result_is_taken_for_a_trained_model(case):
    """The check of the loss itself: another model gives another loss."""
    loop = build_loop("faithful/nchw", replace(case, weights=None), CPU)
    batch = make_batches(case, CPU, channels_last=False)[0]
    other = build_loop("faithful/nchw", case, CPU)
    assert abs(loop.first_loss(batch) - first_loss(other.model, batch, other.training.autocast)) > 1e-3
