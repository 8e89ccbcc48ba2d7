"""Tables of pages, made from result files: each goes into its one place, which two marks bound.

    <!-- threads: streams -->
    | what is measured | ... |
    <!-- end -->

The first says which result the table is made of, and which of its tables it is. Nobody sees marks:
a comment of Markdown is not shown. Tests hold every page to its results.
"""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Callable, Iterable, Mapping

from result_file import REPOSITORY

END = "<!-- end -->\n"


def fill(text: str, mark: str, rows: Iterable[str]) -> str:
    """The page with these lines between their marks, instead of what stood there.

    Raises:
        ValueError: the page has no such place, or several, or it does not end.
    """
    opening = f"<!-- {mark} -->\n"
    before, *rest = text.split(opening)
    held, end, after = rest[0].partition(END) if len(rest) == 1 else ("", "", "")
    if not end or "<!--" in held:
        raise ValueError(f"not one place in the page, from {opening.strip()} to {END.strip()}")
    return before + opening + "".join(f"{row}\n" for row in rows) + end + after


def main(pages: Mapping[str, Callable[[str], str]]) -> None:
    """Of a script that fills pages: write them, or show what would change in them."""
    parser = argparse.ArgumentParser(description="Fill pages from result files.")
    parser.add_argument("--write", action="store_true", help="do it; without: show what changes")
    write = parser.parse_args().write
    for name, filled in pages.items():
        path = REPOSITORY / name
        before = path.read_text()
        after = filled(before)
        if write:
            path.write_text(after)
            continue
        old, new = (text.splitlines(keepends=True) for text in (before, after))
        sys.stdout.writelines(difflib.unified_diff(old, new, name, name))
