"""The command `ctedge`, and `python -m ctedge`: the little that is there before the rest.

Most of a start is imports. Ctrl-C ends them as it ends what comes after them: in one line.
"""

import contextlib
import sys

_INTERRUPTED = 130


def main() -> None:
    """Import the command line, and run it."""
    try:
        from ctedge.cli import main as run

        run()
    except KeyboardInterrupt:
        with contextlib.suppress(OSError):
            sys.stderr.write("interrupted\n")
        sys.exit(_INTERRUPTED)


if __name__ == "__main__":
    main()
