"""One thread prepares what comes next: the order, how far ahead, errors, and how it ends."""

from __future__ import annotations

import gc
import itertools
import re
import threading
import weakref

import nibabel as nib
import pytest

from bundle_factory import write_tiny
from conftest import REPOSITORY
from ctedge.errors import InferenceFailed, UnreadableScan
from ctedge.lifetime import forget_frames
from ctedge.pipeline import InStep
from ctedge.uses import Uses
from patience import PATIENCE_S


def same(item):
    return item


def preparing_threads() -> list[threading.Thread]:
    return [one for one in threading.enumerate() if one.name == "ctedge-prepare"]


def all_end() -> bool:
    for one in preparing_threads():
        one.join(PATIENCE_S)
    return preparing_threads() == []


@pytest.fixture(autouse=True)
def _no_thread_is_left():
    assert all_end()  # one that another file's test has dropped may be about to
    yield
    assert all_end()


@pytest.mark.parametrize("ahead", [0, 1, 3])
def test_answers_come_in_order(ahead):
    steps = InStep(range(50), lambda n: n + 1, lambda n: n * 10, ahead=ahead)
    assert list(steps) == [(n + 1) * 10 for n in range(50)]


def test_nothing_is_asked_before_the_first_answer_is_wanted():
    asked = []
    steps = InStep((asked.append(n) for n in range(3)), same, same)
    assert not asked
    steps.close()
    assert not asked


@pytest.mark.parametrize("ahead", [0, 1, 3])
def test_no_more_is_prepared_than_may_wait(ahead):
    """Of an endless stream: what was asked for, and what is alive, at every moment of judging."""
    asked = 0
    alive: weakref.WeakSet[Scan] = weakref.WeakSet()

    class Scan:
        pass

    def scan_of(number):
        nonlocal asked
        asked = number
        scan = Scan()
        alive.add(scan)
        return scan

    seen = []

    def judge(scan):
        seen.append(scan is not None)
        assert asked <= len(seen) + ahead
        assert len(alive) <= 1 + ahead
        return len(seen)

    steps = InStep(map(scan_of, itertools.count(1)), same, judge, ahead=ahead)
    for wanted in range(1, 30):
        assert next(steps) == wanted
        assert asked <= wanted + ahead
        assert len(alive) <= ahead
    steps.close()


def test_the_next_is_prepared_while_one_is_judged():
    ready = [threading.Event() for _ in range(4)]

    def prepare(n):
        ready[n].set()
        return n

    def judge(n):
        assert n == 3 or ready[n + 1].wait(PATIENCE_S)
        return n

    assert list(InStep(range(4), prepare, judge)) == [0, 1, 2, 3]


def test_an_answer_does_not_wait_for_the_next_item_to_come():
    more = threading.Event()

    def stream():
        yield 1
        assert more.wait(PATIENCE_S)
        yield 2

    steps = InStep(stream(), same, same)
    assert next(steps) == 1
    more.set()
    assert list(steps) == [2]


@pytest.mark.parametrize("where", ["prepare", "judge"])
def test_an_error_of_one_item_stands_in_its_place(where):
    def spoilt(n):
        if n == 1:
            raise UnreadableScan("one")
        return n

    stages = (spoilt, same) if where == "prepare" else (same, spoilt)
    first, error, last = InStep(range(3), *stages)
    assert (first, last) == (0, 2)
    assert isinstance(error, UnreadableScan)


def test_a_kept_error_does_not_hold_the_scan():
    class Scan:
        pass

    held = []

    def read(_n):
        scan = Scan()
        held.append(weakref.ref(scan))
        [damaged(scan) for _ in "a function of its own, which closes over the scan, until 3.12"]

    def damaged(_scan):
        def found():
            raise ValueError(repr(_scan))  # closes over it, in every Python

        try:
            found()
        except ValueError as error:
            raise UnreadableScan("one", found=error) from error

    (error,) = InStep([1], read, same)
    assert [reference() for reference in held] == [None]
    assert isinstance(error.__cause__, ValueError)
    assert "Scan object" in str(error)


def test_an_error_that_is_not_ours_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError) as met:
        raise ZeroDivisionError
    forget_frames(met.value)
    assert met.value.__traceback__ is not None


@pytest.mark.parametrize("where", ["prepare", "judge", "items"])
def test_any_other_error_is_raised_after_the_answers_before_it(where):
    def spoilt(n):
        if n == 1:
            raise ZeroDivisionError
        return n

    stages = {"prepare": (spoilt, same), "judge": (same, spoilt), "items": (same, same)}[where]
    items = map(spoilt, range(3)) if where == "items" else range(3)
    steps = InStep(items, *stages)
    assert next(steps) == 0
    with pytest.raises(ZeroDivisionError):
        next(steps)
    assert list(steps) == []


def test_an_error_of_the_stream_itself_ends_it_whatever_it_is():
    def stream():
        yield 0
        raise UnreadableScan("the stream is gone")

    steps = InStep(stream(), same, same)
    assert next(steps) == 0
    with pytest.raises(UnreadableScan, match="gone"):
        next(steps)


def test_closing_reads_no_further():
    begun, go, read = threading.Event(), threading.Event(), []

    def prepare(n):
        read.append(n)
        if n == 1:
            begun.set()
            assert go.wait(PATIENCE_S)
        return n

    steps = InStep(itertools.count(), prepare, same)
    assert next(steps) == 0
    assert begun.wait(PATIENCE_S)
    closing = threading.Thread(target=steps.close)
    closing.start()
    go.set()  # it is waited for what is being read
    closing.join(PATIENCE_S)
    assert not closing.is_alive()
    assert read == [0, 1]
    assert list(steps) == []


def test_closing_does_not_wait_for_a_stream_that_gives_nothing():
    asked, more, read = threading.Event(), threading.Event(), []

    def stream():
        yield 1
        asked.set()
        assert more.wait(PATIENCE_S)
        yield 2

    steps = InStep(stream(), lambda n: read.append(n) or n, same)
    assert next(steps) == 1
    assert asked.wait(PATIENCE_S)
    (thread,) = preparing_threads()
    steps.close()
    assert thread.is_alive()
    more.set()
    thread.join(PATIENCE_S)
    assert read == [1]


def test_a_generator_that_nobody_holds_ends_its_thread():
    steps = InStep(itertools.count(), same, same)
    assert next(steps) == 0
    (thread,) = preparing_threads()
    del steps
    gc.collect()
    thread.join(PATIENCE_S)
    assert not thread.is_alive()


def test_an_interrupt_ends_the_thread():
    def judge(_n):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        next(InStep(itertools.count(), same, judge))


def test_the_end_waits_for_those_who_run_and_refuses_others():
    uses, begun, go = Uses(None), threading.Event(), threading.Event()

    def work():
        begun.set()
        assert go.wait(PATIENCE_S)

    def run():
        uses.run(work)

    running, ending = threading.Thread(target=run), threading.Thread(target=uses.end)
    running.start()
    assert begun.wait(PATIENCE_S)
    ending.start()
    while not uses._closed:
        pass
    with pytest.raises(InferenceFailed, match="was closed"):
        uses.run(int)
    assert ending.is_alive()
    go.set()
    ending.join(PATIENCE_S)
    running.join(PATIENCE_S)
    assert not ending.is_alive()
    assert uses.end()


def test_the_page_on_batches_runs(tmp_path, monkeypatch, capsys, chest, las_affine):
    for name in ("one.nii.gz", "two.nii.gz"):
        nib.save(nib.Nifti1Image(chest, las_affine), tmp_path / name)
    monkeypatch.chdir(tmp_path)
    page = (REPOSITORY / "docs" / "batches.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    write_tiny(tmp_path / "tiny.ctedge")  # the shipped model would take seconds
    names: dict[str, object] = {}
    for block in blocks:
        code = block.replace('"pneumonia"', '"tiny.ctedge"')
        exec(compile(code, "batches.md", "exec"), names)  # noqa: S102 - our own page
    assert "no such file" in capsys.readouterr().out
