"""Preparing on a real Dask cluster of two processes: the same store, and typed errors."""

# ruff: noqa: E402 - imports follow the check for the optional package
from __future__ import annotations

import contextlib
import os
import shutil
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

distributed = pytest.importorskip("distributed")

from typer.testing import CliRunner

from ctedge import pool
from ctedge.errors import (
    DatasetError,
    MissingExtra,
    OutputError,
    RuntimeUnavailable,
    UnreadableScan,
)
from ctedge.progress import Reporter
from ctedge_training.cli import app
from ctedge_training.datasets import cluster as clusters
from ctedge_training.datasets.cluster import on_cluster
from ctedge_training.datasets.prepare import prepare_store
from ctedge_training.datasets.source import Source
from ctedge_training.learning.settings import Settings
from ctedge_training.tasks import CLASSIFIER, SEVERITY
from folders import contents
from patience import PATIENCE_S
from scan_factory import GRID, ROWS, SETTINGS, class_folders, labelled, opened


def local_cluster(folder: Path, workers: int) -> Any:
    return distributed.LocalCluster(
        n_workers=workers,
        threads_per_worker=1,
        processes=True,
        dashboard_address="127.0.0.1:0",  # a free port, where None would take 8787
        host="127.0.0.1",
        local_directory=str(folder),
    )


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with local_cluster(tmp_path_factory.mktemp("dask"), 2) as cluster:
        yield cluster.scheduler_address


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return labelled(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def local(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store that this machine's own pool makes."""
    out = tmp_path_factory.mktemp("local")
    prepare_store(Source(folder=data), out, CLASSIFIER, SETTINGS)
    return out


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine's scheduler may answer late."""
    monkeypatch.setattr(clusters, "TIMEOUT_S", PATIENCE_S)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_the_cluster_makes_the_same_store(
    address: str, data: Path, local: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Relative paths: the workers stand in another folder.
    shutil.copytree(data, tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    source = Source(folder=Path("data"))
    made = prepare_store(source, Path("store"), CLASSIFIER, SETTINGS, cluster=address)
    assert [volume.sample.name for volume in made.volumes] == [row[0] for row in ROWS]
    assert contents(tmp_path / "store") == contents(local)
    folders = Source(folder=Path("folders"), classes=("clear", "covid"))
    class_folders(folders.folder, ("clear", "covid"), 8)
    assert (
        len(prepare_store(folders, Path("x"), CLASSIFIER, SETTINGS, cluster=address).volumes) == 16
    )
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "store").iterdir()}
    assert prepare_store(source, Path("store"), CLASSIFIER, SETTINGS, cluster=address) == made
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_the_command_line_hands_the_work_to_the_cluster(
    address: str, data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "store"
    arguments = ["prepare", str(data), "-o", str(out), "--grid", "46x46x46", "--cluster", address]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "8 volumes prepared" in result.output
    assert len(opened(out, CLASSIFIER, Settings()).volumes) == len(ROWS)


def test_a_bad_scan_arrives_as_our_error_or_is_left_out(
    address: str, data: Path, tmp_path: Path
) -> None:
    own = tmp_path / "own"
    shutil.copytree(data, own)
    (own / "scan_1.nii.gz").write_bytes(b"no scan")
    store = tmp_path / "store"
    with pytest.raises(UnreadableScan, match=r"own/scan_1\.nii\.gz: not a NIfTI file"):
        prepare_store(Source(folder=own), store, CLASSIFIER, SETTINGS, cluster=address)
    assert not (store / "index.json").exists()
    lines: list[str] = []
    prepare_store(
        Source(folder=own, skip_bad=True),
        store,
        CLASSIFIER,
        SETTINGS,
        cluster=address,
        reporter=Reporter(say=lines.append, bars=False),
    )
    assert len(opened(store, CLASSIFIER).volumes) == len(ROWS) - 1
    assert any(line.startswith("skipped scan_1.nii.gz") for line in lines)


def test_an_error_of_the_data_arrives_as_it_is(address: str, data: Path, tmp_path: Path) -> None:
    lungs = Settings(spec="severity-study-lungs", grid=GRID)
    with pytest.raises(DatasetError, match="no lung mask for scan_"):
        prepare_store(Source(folder=data), tmp_path, SEVERITY, lungs, cluster=address)


def test_what_goes_wrong_on_the_cluster_is_told(address: str) -> None:
    with (
        on_cluster(address) as each,
        pytest.raises(RuntimeUnavailable, match="did not finish the work") as caught,
    ):
        list(each(int, ["1", "two"], workers=1))
    assert "ValueError" in str(caught.value)
    with on_cluster(address) as each:
        assert sorted(each(int, ["1", "2"], workers=1)) == [(0, 1), (1, 2)]


def test_a_worker_is_no_scheduler(address: str) -> None:
    with distributed.Client(address, set_as_default=False) as client:
        worker = next(iter(client.scheduler_info()["workers"]))
    with pytest.raises(RuntimeUnavailable, match="no Dask scheduler") as caught, on_cluster(worker):
        pass
    assert "a Worker listens there" in str(caught.value)


def test_workers_that_die_are_told(tmp_path: Path) -> None:
    cluster = local_cluster(tmp_path, 1)
    try:
        with (
            on_cluster(cluster.scheduler_address) as each,
            pytest.raises(RuntimeUnavailable, match="did not finish the work") as caught,
        ):
            list(each(os._exit, [1], workers=1))
        assert "memory" in str(caught.value)
    finally:
        # Dask may be about to start the next worker, and cannot join what has not begun.
        with contextlib.suppress(AssertionError):
            cluster.close()


@pytest.mark.parametrize(
    "address",
    [
        "",
        "nonsense",
        "tcp://127.0.0.1",
        "tcp://127.0.0.1:x",
        "foo://127.0.0.1:1",
        "tls://127.0.0.1:1",
    ],
)
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(RuntimeUnavailable, match="no Dask scheduler answers"), on_cluster(address):
        pass


def test_no_scheduler_is_told_soon(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clusters, "TIMEOUT_S", 0.5)
    nobody = f"tcp://127.0.0.1:{free_port()}"
    with pytest.raises(RuntimeUnavailable, match="no Dask scheduler answers") as caught:
        prepare_store(Source(folder=data), tmp_path / "store", CLASSIFIER, SETTINGS, cluster=nobody)
    assert "dask scheduler" in str(caught.value)
    assert nobody in str(caught.value)
    assert not (tmp_path / "store").exists()
    with socket.create_server(("127.0.0.1", 0)) as mute:  # takes the call and says nothing
        silent = f"tcp://127.0.0.1:{mute.getsockname()[1]}"
        with (
            pytest.raises(RuntimeUnavailable, match="no Dask scheduler answers"),
            on_cluster(silent),
        ):
            pass


def test_a_scheduler_without_workers_is_told_soon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clusters, "WORKERS_S", 0.5)
    with (
        local_cluster(tmp_path, 0) as idle,
        pytest.raises(RuntimeUnavailable, match="has no workers"),
        on_cluster(idle.scheduler_address),
    ):
        pass


def test_without_dask_the_extra_is_named(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(MissingExtra, match="preparing on a cluster") as caught:
        prepare_store(Source(folder=data), tmp_path, CLASSIFIER, SETTINGS, cluster="tcp://x:1")
    assert "ctedge[cluster]" in str(caught.value)


def test_volumes_that_the_cluster_wrote_elsewhere_are_missed(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Machines with a file system of their own are not here: their files vanish instead."""

    @contextlib.contextmanager
    def apart(_address: str) -> Iterator[Any]:
        def each(
            work: Callable[[Any], Any], items: Sequence[Any], *, workers: int
        ) -> Iterator[tuple[int, Any]]:
            for index, volume in pool.each(work, items, workers=workers):
                volume.stored.unlink()
                yield index, volume

        yield each

    monkeypatch.setattr(clusters, "on_cluster", apart)
    with pytest.raises(OutputError, match="wrote its volumes elsewhere"):
        prepare_store(Source(folder=data), tmp_path, CLASSIFIER, SETTINGS, cluster="tcp://x:1")
    assert not (tmp_path / "index.json").exists()
