"""`python -m kdlib` is `kd`."""

import sys

from kdlib.cli import app

if __name__ == "__main__":
    sys.exit(app())
