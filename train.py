#!/usr/bin/env python
"""Run `hw1 train` from a checkout.

python train.py RECIPE.yaml [section.key=value ...]

On several GPUs: torchrun --nproc-per-node N train.py RECIPE.yaml [section.key=value ...]
"""

import sys

from hw1.commands.train import main
from hw1.errors import run_command

if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:]))
