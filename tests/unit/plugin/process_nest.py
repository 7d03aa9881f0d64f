"""Runs the command in its arguments and waits for it: a server, or a bootloader, of a plugin."""

import subprocess
import sys

if __name__ == "__main__":
    sys.exit(subprocess.run(sys.argv[1:]).returncode)
