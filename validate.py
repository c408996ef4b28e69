#!/usr/bin/env python
"""Run `hw1 validate` from a checkout.

python validate.py RUN_DIR [--split val|test|DIR]
"""

import sys

from hw1.commands.validate import main, parse
from hw1.errors import run_command

__all__ = ["main", "parse"]

if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:]))
