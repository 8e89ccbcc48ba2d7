"""Every page holds the tables of its result files, each in its one place."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from conftest import REPOSITORY
from ctedge.bench.machine import BenchMachine

BENCHMARKS = REPOSITORY / "benchmarks"

#: What fills pages.
SCRIPTS = sorted(
    path.stem for path in BENCHMARKS.glob("*.py") if "from page import" in path.read_text()
)

WITH_MARKS = [
    *(REPOSITORY / "README.md", REPOSITORY / "training" / "README.md"),
    *sorted((REPOSITORY / "docs").glob("*.md")),
]

PLACE = "<!-- x -->\nold\n<!-- end -->\n"


@pytest.fixture(autouse=True)
def _benchmarks_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)


def pages_of(script: str) -> dict[str, Callable[[str], str]]:
    found: dict[str, Callable[[str], str]] = importlib.import_module(script).PAGES
    return found


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_pages_are_made_from_the_result_files(script):
    for name, filled in pages_of(script).items():
        text = (REPOSITORY / name).read_text()
        assert filled(text) == text, f"python benchmarks/{script}.py --write"
        for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
            assert len({line.count("|") for line in table.splitlines()}) == 1, table


@pytest.mark.parametrize("page", WITH_MARKS, ids=lambda path: path.name)
def test_each_place_belongs_to_one_script_which_refuses_the_page_without_it(page):
    name, text = str(page.relative_to(REPOSITORY)), page.read_text()
    fillers = [pages_of(script)[name] for script in SCRIPTS if name in pages_of(script)]

    def refusals(changed: str) -> int:
        return sum(refuses(filled, changed) for filled in fillers)

    assert refusals(text) == 0
    places = re.findall(r"^<!-- .* -->\n(?:(?!<!--).*\n)*<!-- end -->$", text, re.MULTILINE)
    assert bool(places) == bool(fillers)
    for place in places:
        assert refusals(text.replace(place, "")) == 1, place
        assert refusals(text.replace(place, f"{place}\n{place}")) == 1, place


def refuses(filled: Callable[[str], str], text: str) -> bool:
    try:
        filled(text)
    except ValueError:
        return True
    return False


def test_what_stood_in_the_place_is_replaced():
    from page import fill

    text = f"above\n{PLACE}below\n<!-- y -->\nother\n<!-- end -->\n"
    assert fill(text, "x", ["| a |", "| b |"]) == text.replace("old\n", "| a |\n| b |\n")


@pytest.mark.parametrize(
    "text",
    [
        "no place\n",
        PLACE + PLACE,
        "<!-- x -->\nno end\n",
        "<!-- x -->\nno end\n<!-- y -->\n<!-- end -->\n",
    ],
)
def test_a_page_without_one_whole_place_is_refused(text):
    from page import fill

    with pytest.raises(ValueError, match="from <!-- x --> to <!-- end -->"):
        fill(text, "x", ["new"])


def test_a_script_shows_what_would_change_and_writes_when_told_to(tmp_path, monkeypatch, capsys):
    from page import fill, main

    path = tmp_path / "page.md"
    path.write_text(PLACE)
    pages = {str(path): lambda text: fill(text, "x", ["new"])}
    monkeypatch.setattr("sys.argv", ["script.py"])
    main(pages)
    assert "-old\n+new\n" in capsys.readouterr().out
    assert path.read_text() == PLACE
    monkeypatch.setattr("sys.argv", ["script.py", "--write"])
    main(pages)
    assert path.read_text() == PLACE.replace("old", "new")


def document(**changes: Any) -> dict[str, Any]:
    """As it is read from a file: tuples have become lists."""
    seen = {"governors": None, "cpu_quota": None, "load": 0.1, "cores": 2, "cores_usable": 2}
    machine = replace(BenchMachine.here(), **seen).to_json()
    return {"machine": machine | changes}


def test_a_page_says_what_speaks_against_its_times():
    from result_file import doubts

    assert list(doubts(document())) == []
    assert list(doubts(document(governors=["performance"]))) == []
    (busy,) = doubts(document(load=1.4))
    assert busy == "**busy: a load of 1.4 on 2 cores before anything was measured**"
    clocks, quota = doubts(document(governors=["powersave"], cpu_quota=1.5))
    assert clocks == "**clocks: governor powersave**"
    assert quota.startswith("**quota: ")
    (trial,) = doubts(document() | {"quick": True})
    assert "these figures say nothing" in trial
