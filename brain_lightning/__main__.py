"""``python -m brain_lightning``: the same program as ``brain-lightning``."""

import sys

from brain_lightning.entry.command_line import main

if __name__ == "__main__":
    sys.exit(main())
