"""The command `ctedge`, and `python -m ctedge`: the little that is there before the rest.

Most of a start is imports. Ctrl-C ends them as it ends what comes after them: in one line.
"""

import contextlib
import sys

#: The exit code of a command that Ctrl-C ended: 128 and the number of SIGINT, as a shell tells it.
INTERRUPTED = 130


def main() -> None:
    """Import the command line, and run it."""
    try:
        from ctedge.cli import main as run

        run()
    except KeyboardInterrupt:
        say_interrupted()
        sys.exit(INTERRUPTED)


def say_interrupted() -> None:
    """The one line that a command says which Ctrl-C ended."""
    with contextlib.suppress(OSError):
        sys.stderr.write("interrupted\n")


if __name__ == "__main__":
    main()
