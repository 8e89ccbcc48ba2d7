"""From a data folder to a prepared store."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ctedge.errors import DatasetError, OutputError, counted
from ctedge.progress import Reporter
from ctedge_training.datasets import index
from ctedge_training.datasets.source import Data, Source
from ctedge_training.datasets.store import data_digest
from ctedge_training.learning.settings import Settings
from ctedge_training.tasks import CLASSIFIER, Task


def prepare_store(  # noqa: PLR0913
    source: Source,
    out: Path,
    task: Task,
    settings: Settings,
    *,
    hdf5: bool = False,
    cluster: str | None = None,
    reporter: Reporter | None = None,
) -> Data:
    """Preprocess all scans of a source into `out`, with an index and a table of splits.

    Run again, it goes on where it was interrupted, and writes nothing where nothing changed. The
    index comes last: a store that has one is whole.

    Args:
        source: the scans and their answers.
        out: the store's folder, another than the source's.
        task: whose answers to read; where the other task's are known too, the store has both.
        settings: `spec` and `grid`.
        hdf5: also write one HDF5 file a split, as the HRCT study did.
        cluster: address of a Dask scheduler that does the work instead of local processes.
        reporter: shows progress.

    Raises:
        DatasetError: see `ctedge_training.datasets`.
        InputError: a scan cannot be read.
        OutputError: the store cannot be written, or would lie in the data folder itself.
        RuntimeUnavailable: the cluster does not answer, or does not finish the work.
        MissingExtra: a package for HDF5 or the cluster is absent.
    """
    reporter = Reporter.silent() if reporter is None else reporter
    _check_folders(source.folder, out)
    # Absolute, because the machines of a cluster stand in working folders of their own.
    source = replace(
        source,
        folder=source.folder.resolve(),
        masks=None if source.masks is None else source.masks.resolve(),
        cache=out.resolve(),
    )
    if cluster is None:
        data = source.open(task, settings, reporter)
    else:
        from ctedge_training.datasets.cluster import on_cluster

        with on_cluster(cluster) as each:
            data = replace(source, each=each).open(task, settings, reporter)
        _check_shared(data, out, cluster)
    data.trainable(source.folder)
    if hdf5:
        from ctedge_training.hrct.hdf5_splits import write_splits

        for path in write_splits(out, data.spec, data.volumes):
            reporter.say(f"{path} holds its share of them")
    labels = data.labels if task.binary else CLASSIFIER.labels
    index.write_index(out, data.spec, data.volumes, labels)
    digest = data_digest(data.volumes)
    reporter.say(
        f"{out}: {counted(len(data.volumes), 'volume')} prepared, data digest {digest[:12]}"
    )
    return data


def _check_folders(folder: Path, out: Path) -> None:
    if index.is_store(folder):
        raise DatasetError(
            f"{folder} is a prepared store already",
            fix="train from it as it is, or name the data folder that it was prepared from",
        )
    if out.resolve() == folder.resolve():
        raise OutputError(
            f"the store would lie in the data folder {folder} itself",
            expected="a folder of its own, or changed labels would go unnoticed",
            fix="name another folder with --out",
        )


def _check_shared(data: Data, out: Path, cluster: str) -> None:
    missing = [volume for volume in data.volumes if not volume.stored.is_file()]
    if missing:
        raise OutputError(
            f"the cluster {cluster} wrote its volumes elsewhere than into {out}",
            found=f"no {missing[0].stored.name}, and {counted(len(missing) - 1, 'other')} missing",
            expected="a folder that this machine and those of the cluster share",
            fix="name a folder on the shared file system with --out",
        )
