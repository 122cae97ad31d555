"""`python -m console`: the operator's commands, and the control role."""

import sys

from console.cli import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
