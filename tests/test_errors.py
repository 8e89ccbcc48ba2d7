from __future__ import annotations

import inspect
import pickle
import re

import pytest

from ctedge import CTEdgeError, errors

KINDS = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if kind is not CTEdgeError]


def test_the_drawn_tree_is_the_real_one():
    drawn = re.findall(r"^    ([│ ]*)[├└]── (\w+)", errors.__doc__, re.MULTILINE)
    assert {name for _, name in drawn} == {kind.__name__ for kind in KINDS}
    parent = CTEdgeError
    for indent, name in drawn:
        kind = getattr(errors, name)
        if indent:
            assert kind.__bases__ == (parent,)
        else:
            assert kind.__bases__ == (CTEdgeError,)
            parent = kind


def test_a_message_says_what_found_expected_and_what_to_do():
    error = errors.UnreadableScan("scan.nii: broken", found=3, expected="4", fix="copy it again")
    assert str(error).splitlines() == [
        "scan.nii: broken",
        "  found:    3",
        "  expected: 4",
        "  to do:    copy it again",
    ]
    assert error.as_dict() == {
        "type": "UnreadableScan",
        "what": "scan.nii: broken",
        "found": "3",
        "expected": "4",
        "fix": "copy it again",
    }


def test_a_line_break_from_outside_makes_no_line_of_the_message():
    named = "x\n  to do:    run me"
    error = errors.ScanNotFound(f"{named}: no such file", found=named, fix="check the path")
    assert str(error).splitlines() == [
        "x\\n  to do:    run me: no such file",
        "  found:    x",
        "            to do:    run me",
        "  to do:    check the path",
    ]


def test_in_one_line_it_says_what_and_found_and_if_asked_what_was_expected():
    error = errors.RuntimeUnavailable("no\n  GPU", found="\x1b[31m", expected="one", fix="buy one")
    assert error.in_one_line() == "no GPU (\\x1b[31m)"
    assert error.in_one_line(expected=True) == "no GPU (\\x1b[31m); expected one"
    assert errors.RuntimeUnavailable("no GPU").in_one_line(expected=True) == "no GPU"


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_errors_survive_a_process_pool(kind):
    error = kind("what", found=[1], expected=2, fix="do")
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - what multiprocessing does
    assert type(again) is kind
    assert str(again) == str(error)


def test_only_a_failed_gate_exits_with_3():
    assert {kind.__name__ for kind in KINDS if kind.exit_code == 3} == {"GateFailed"}
    assert {kind.exit_code for kind in KINDS} == {1, 3}


def test_a_name_from_outside_cannot_steer_the_terminal():
    error = errors.UnreadableScan(
        "a\x1b]0;owned\x07.nii: broken", found="\x1b[31m\u202e", fix="é µ"
    )
    assert "\x1b" not in str(error)
    assert "\u202e" not in str(error)
    assert "a\\x1b]0;owned\\x07.nii" in str(error)
    assert str(error).endswith("é µ")
