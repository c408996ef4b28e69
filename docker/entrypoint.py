"""What a container of the image runs: hw1 train RECIPE, or another of hw1's commands. Becomes that command, with its exit code.

usage: docker run --rm --gpus all --user "$(id -u):$(id -g)" -v DATA:/data -v RUNS:/runs IMAGE [COMMAND] ARGUMENTS

  IMAGE RECIPE [section.key=value ...]                train; the same as: IMAGE train RECIPE ...
  IMAGE torchrun --nproc-per-node N train.py RECIPE [section.key=value ...]
  IMAGE ablate RECIPES... [section.key=value ...] --seeds 0 1 2
  IMAGE sweep RECIPE SPACE.yaml [section.key=value ...]
  IMAGE folds RECIPE --k 5 [section.key=value ...]
  IMAGE validate | predict | export | attention runs/NAME/seedN ...
  IMAGE report runs --out report                      with -v REPORT:/report
  IMAGE audit data                                    with -v AUDIT:/audit
  IMAGE show-augmentation RECIPE --out runs/augmentation.png
  IMAGE COMMAND --help
  IMAGE bash                                          a shell, where hw1 is known; with -it
  IMAGE wandb ARGUMENTS                               wandb's own command: wandb sync runs/NAME/seedN/wandb/offline-run-*

RECIPE: a file, or a recipe of the image: finetune, or recipes/finetune.yaml.
Folders: /data images (data.root where neither recipe nor command line sets one), /runs runs, /recipes the image's recipes, /cache weights
and compiled kernels (-v CACHE:/cache keeps them). The working folder is /, so that runs/NAME is the same inside and beside `runs`.
wandb: -e WANDB_API_KEY and log.wandb=online. Time to save: docker run --stop-timeout 60.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from hw1.config.load import load_recipe
from hw1.config.shipped import find_recipe
from hw1.errors import UserError

APP = Path(__file__).parents[1]
NAMES = ("train", "validate", "predict", "ablate", "sweep", "folds", "report", "audit", "export", "attention", "show-augmentation")
COMMANDS = {"torchrun": ["-m", "torch.distributed.run"], "wandb": ["-m", "wandb"], **{name: ["-m", "hw1", name] for name in NAMES}}
KEPT = {**dict.fromkeys(("train", "torchrun", "ablate", "sweep", "folds"), "/runs"), "report": "/report", "audit": "/audit"}
"""Where a command writes what the user will miss if the container goes."""


def main(argv: Sequence[str]) -> None:
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(__doc__)
        return
    if argv[0] == "bash":
        os.execvp("bash", argv)
    name, *arguments = argv if argv[0] in COMMANDS else ["train", *argv]
    folder = KEPT.get(name)
    if folder and not {"-h", "--help", "--print-config", "--dry-run"} & set(arguments) and not is_mounted(folder):
        print(f"{folder}: no folder of the host, so it goes with the container; docker run -v FOLDER:{folder} keeps it", file=sys.stderr)
    os.execv(sys.executable, [sys.executable, *COMMANDS[name], *complete(name, arguments)])


def complete(name: str, arguments: Sequence[str]) -> list[str]:
    """The arguments, with `data.root=/data` where a recipe needs one and has none from the command line or its recipes."""
    if name == "torchrun":  # its own options come first, then the script and what that takes
        before, script, after = split_at(arguments, "train.py")
        return [*before, *(str(APP / each) for each in script), *(complete("train", after) if script else [])]
    overrides = [item for item in arguments if "=" in item and not item.startswith("-")]
    recipes = [item for item in arguments if item not in overrides and find_recipe(item).is_file()]
    if name not in ("train", "ablate", "sweep", "folds", "show-augmentation") or not recipes:
        return list(arguments)
    try:
        roots = [load_recipe(path, overrides).data.root for path in (recipes[:1] if name == "sweep" else recipes)]
    except UserError:  # the command itself will say it
        return list(arguments)
    place = arguments.index(recipes[0]) + 1  # not at the end, where it would be one of the --seeds
    return [*arguments[:place], *([] if any(roots) else ["data.root=/data"]), *arguments[place:]]


def split_at(items: Sequence[str], word: str) -> tuple[Sequence[str], Sequence[str], Sequence[str]]:
    place = items.index(word) if word in items else len(items)
    return items[:place], items[place : place + 1], items[place + 1 :]


def is_mounted(folder: str, table: Path = Path("/proc/self/mountinfo")) -> bool:
    """Whether something is mounted on the folder; proc(5): the fifth field of a line is the mount point."""
    return any(line.split()[4] == folder for line in table.read_text().splitlines())


if __name__ == "__main__":
    main(sys.argv[1:])
