"""The same as the command `hw1`: python -m hw1 COMMAND ..."""

import sys

from hw1.cli import main

if __name__ == "__main__":
    sys.exit(main())
