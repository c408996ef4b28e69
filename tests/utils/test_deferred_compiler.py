"""torch's compiler is imported once something is compiled, and is then what it is without the stand-in."""

import json
import subprocess
import sys

import pytest
from helpers.paths import ROOT

COMMAND = """
from hw1.errors import run_command
run_command(lambda argv: 0, [])
"""
EAGER_STEP = """
import json, sys
import hw1.models, timm, torch
from hw1.config.recipe import OptimConfig
from hw1.training.optim import build_optimizer
model = timm.create_model("resnet18", num_classes=3)
optimizer = build_optimizer(model, OptimConfig())
def step(forward):
    optimizer.zero_grad()
    forward(torch.ones(2, 3, 32, 32)).sum().backward()
    optimizer.step()
step(model)
found = {"eager": [name for name in ("torch._dynamo.utils", "torch._inductor", "wandb") if name in sys.modules]}
"""
COMPILED_STEP = """
@torch.compiler.disable
def exempt(value):
    return value + bool(torch.compiler.is_compiling())
class Exempting(torch.nn.Module):
    def forward(self, images):
        return exempt(model(images))
torch._dynamo.config.verbose = True
step(torch.compile(Exempting(), backend="eager"))
import torch._dynamo.eval_frame, wandb
from torchvision.ops.roi_align import is_compile_supported
found |= {
    "compiled": torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0,
    "file": torch._dynamo.eval_frame.__file__.endswith("eval_frame.py"),
    "kept": torch._dynamo.config.verbose,
    "kron": torch._dynamo.config.recompile_limit,
    "supported": is_compile_supported("cpu"),
    "exempted": torch.optim.Optimizer.zero_grad.__wrapped__.__dict__["__dynamo_disable"] is not torch.optim.Optimizer.zero_grad.__wrapped__,
    "wandb": bool(wandb.__version__),
}
"""


def run(code: str) -> dict:
    command = [sys.executable, "-c", f"{code}\nprint(json.dumps(found))"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_an_eager_step_imports_neither_compiler_nor_wandb():
    assert run(COMMAND + EAGER_STEP) == {"eager": []}


@pytest.mark.slow
def test_compiling_after_an_eager_step_is_as_without_the_stand_in():
    found = run(COMMAND + EAGER_STEP + COMPILED_STEP)
    assert found == {
        "eager": [],
        "compiled": True,
        "file": True,
        "kept": True,
        "kron": 1_000_000,  # what timm's optimizer of this name has set on import
        "supported": True,
        "exempted": True,
        "wandb": True,
    }


def test_a_compiler_that_is_imported_already_stays():
    code = f"{COMMAND}import json, torch._dynamo as compiler, hw1.models, sys\nfound = {{'same': sys.modules['torch._dynamo'] is compiler}}"
    assert run(code) == {"same": True}


def test_in_a_users_program_nothing_stands_in_for_the_compiler():
    code = "import json, sys, hw1.models\nfound = [type(sys.modules['torch._dynamo']).__name__, sys.modules.get('wandb', 1) is None]"
    assert run(code) == ["module", False]
