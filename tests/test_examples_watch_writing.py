"""A study that is still being written waits, however long its files have been there before."""

from __future__ import annotations

import json
import time

import pytest

pytest.importorskip("pydicom")

from watch_played import Desk

HOUR_S = 3600


@pytest.fixture
def desk(tmp_path):
    return Desk(tmp_path)


def test_what_comes_while_it_is_judged_is_judged_too(desk):
    late = "def play(): open(os.path.join(sys.argv[1], 'short', 'late.dcm'), 'w').write('late')"
    assert desk.look(late).stdout == "'a' judged\n'z' judged\n"
    assert desk.answered == ["a", "z"]
    assert desk.look(settle=HOUR_S).stdout == ""  # it came just now
    assert desk.look().stdout == "'short' judged\n"


def test_every_file_that_comes_starts_the_clock_again(desk):
    assert desk.look(settle=HOUR_S).stdout == ""
    for name in ("a", "short"):
        age(desk, name, 2 * HOUR_S)
    (desk.inbox / "short" / "late.dcm").write_text("late")
    assert desk.look(settle=HOUR_S).stdout == "'a' judged\n"
    age(desk, "short", 2 * HOUR_S)
    assert desk.look(settle=HOUR_S).stdout == "'short' judged\n"
    assert desk.answered == ["a", "short"]


def test_a_clock_that_was_set_back_holds_no_study_up(desk):
    assert desk.look(settle=HOUR_S).stdout == ""
    age(desk, "short", -24 * HOUR_S)
    before = time.time()
    assert desk.look(settle=HOUR_S).stdout == ""
    assert before <= remembered(desk, "short")["since"] <= time.time()


def age(desk, study, seconds):
    """As if it had been seen so much earlier."""
    memory = remembered(desk, study)
    text = json.dumps(memory | {"since": memory["since"] - seconds})
    (desk.results / ".state" / f"{study}.json").write_text(text)


def remembered(desk, study):
    return json.loads((desk.results / ".state" / f"{study}.json").read_text())
