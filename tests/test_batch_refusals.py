"""What a batch refuses before any work: outputs, models, a missing Ray, a cluster that is none."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("pyarrow.parquet")

from batch_here import write_table
from bundle_factory import write_tiny
from command_here import call
from ctedge.batch import run_batch
from ctedge.batch.cluster import crew_of
from ctedge.batch.journal import folder_of
from ctedge.errors import MissingExtra, OutputError, RuntimeUnavailable, WrongTask


@pytest.fixture(autouse=True)
def same_environment():
    """Ray is told of its settings in the environment."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def output(tmp_path):
    return tmp_path / "results.parquet"


@pytest.fixture
def table(tmp_path):
    return write_table(tmp_path)


def test_what_cannot_be_begun_is_told_before_any_work(tmp_path, table, output):
    bundle = write_tiny(tmp_path / "tiny.ctedge").path
    with pytest.raises(OutputError, match="no name of a Parquet file") as caught:
        run_batch(table, tmp_path / "results.csv", model=str(bundle))
    assert caught.value.exit_code == 2
    slices = write_tiny(tmp_path / "slices.ctedge", task="slices").path
    with pytest.raises(WrongTask, match="no one answer a scan"):
        run_batch(table, output, model=str(slices))
    output.write_bytes(b"mine")
    with pytest.raises(OutputError, match="already exists") as caught:
        run_batch(table, output, model=str(bundle))
    assert "--retry-failed" in caught.value.fix
    assert output.read_bytes() == b"mine"


def test_results_do_not_go_into_the_bundle_that_answers(tmp_path, table):
    bundle = write_tiny(tmp_path / "tiny.ctedge").path
    before = sorted(bundle.iterdir())
    answer = call("batch", table, "-o", bundle / "results.parquet", "-m", bundle)
    assert answer.returncode == 2
    assert "inside of the bundle" in answer.stderr
    assert sorted(bundle.iterdir()) == before


def test_without_ray_the_extra_is_named(tmp_path, table, output, monkeypatch):
    bundle = write_tiny(tmp_path / "tiny.ctedge").path
    for name in [name for name in sys.modules if name.partition(".")[0] == "ray"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(
        MissingExtra, match="judging a batch of scans needs the package ray"
    ) as caught:
        run_batch(table, output, model=str(bundle))
    assert "ctedge[ray]" in str(caught.value)
    assert not folder_of(output).exists()


def test_nobody_at_the_address_is_told_soon(tmp_path, table, output):
    pytest.importorskip("ray")
    bundle = write_tiny(tmp_path / "tiny.ctedge").path
    for address in ("nonsense", "127.0.0.1:1", "localhost:x", "127.0.0.1:99999"):
        with pytest.raises(RuntimeUnavailable, match="no Ray cluster answers") as caught:
            run_batch(table, output, model=str(bundle), address=address)
        assert "ray start" in caught.value.fix
    assert not folder_of(output).exists()


def test_a_second_ctrl_c_while_ray_ends_leaves_no_folder(tmp_path, monkeypatch):
    made = []

    def interrupted(**_options):
        raise KeyboardInterrupt

    ray = SimpleNamespace(
        init=lambda **options: made.append(Path(options["_temp_dir"])),
        nodes=interrupted,
        shutdown=interrupted,
    )
    monkeypatch.setattr("ctedge.batch.cluster.require", lambda *_, **__: ray)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    with (
        pytest.raises(KeyboardInterrupt),
        crew_of(None, workers=1, threads=1, device="cpu"),
    ):
        pass
    assert [folder.exists() for folder in made] == [False]
