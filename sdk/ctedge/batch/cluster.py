"""Scans through Ray Data to the workers: on this machine alone, or on a cluster that runs.

Whoever may speak to Ray runs code in its processes. On this machine alone it listens on the
loopback interface and asks for a token that is made for this one run; how a cluster is guarded is
its own affair.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import secrets
import socket
import tempfile
import warnings
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from ctedge.batch.loopback import nobody_outside_asked, require_loopback
from ctedge.batch.sigterm import ended_by_sigterm
from ctedge.batch.table import Row
from ctedge.batch.workers import Attempts, Judge, Plan
from ctedge.cpus import usable_cpus
from ctedge.errors import OutputError, RuntimeUnavailable, counted
from ctedge.extras import require
from ctedge.files import remove_folder, temporary_folder
from ctedge.quiet import native_stderr_dropped
from ctedge.runtimes.cuda_driver import find_device, no_device

#: A cluster that has not answered by then is not there.
TIMEOUT_S = 5.0

#: A worker process of a cluster may have to be started first.
_START_S = 120.0

#: What passes through it are paths and answers; Ray takes no less than 75 MiB.
_STORE_BYTES = 100 << 20

#: Sockets below a folder have names of 80 bytes, ctedge-XXXXXXXX/session_DATE_PID/sockets/NAME, and
#: a system takes 103 (macOS) or 107 in all.
_LONGEST_FOLDER = 103 - 80

#: No statistics are sent, no notes on workers that died are printed, no process is started unasked
#: for. Ray's workers would have the lowest priority but four: who wants that says `nice`.
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "RAY_enable_worker_prestart": "0",
    "RAY_prestart_worker_first_driver": "0",
    "RAY_worker_niceness": "0",
}

#: Ray's default off Linux: every process of this machine's own cluster listens on 127.0.0.1.
_LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}


@dataclass(frozen=True, kw_only=True)
class Crew:
    """The workers: how many processes, and what each may use."""

    ray: ModuleType
    workers: int
    threads: int
    gpus: int


@contextlib.contextmanager
def crew_of(
    address: str | None, *, workers: int | None, threads: int, device: str
) -> Iterator[Crew]:
    """Start Ray on this machine, or join the cluster at an address; leave it at the end.

    Args:
        address: HOST:PORT of the cluster's head; None means this machine alone.
        workers: processes; None means as many as the cores, or the GPUs, allow.
        threads: cores of each.
        device: as `Classifier.load` takes it; a worker on "cuda" has one GPU.

    Raises:
        MissingExtra: Ray is absent.
        RuntimeUnavailable: nothing answers at the address, or this machine or the cluster lacks
            what is asked for.
        OutputError: Ray can have no folder for its files.
        SystemExit: SIGTERM came.
    """
    if address is None:
        _refuse_the_impossible(threads, device)
    _settle_environment(local=address is None)
    ray = _import_ray()
    folder: str | None = None
    with _hushed(), ended_by_sigterm() as listen:
        try:
            if address is None:
                own = max(1, usable_cpus() // threads) if workers is None else workers
                folder = _start(ray, cpus=own * threads)
            else:
                _join(ray, address)
            listen()
            place = "this machine" if address is None else "the cluster"
            yield _crew(ray, place, workers=workers, threads=threads, device=device)
        finally:
            _leave(ray, folder)


def outcomes_of(
    crew: Crew, plan: Plan, scans: Sequence[tuple[int, Row]]
) -> Generator[dict[str, Any], None, None]:
    """Yield what `Judge` gives of each scan, as the workers finish them.

    Args:
        crew: who judges.
        plan: what they are told.
        scans: places in the table, and the rows there.

    Raises:
        RuntimeUnavailable: Ray gave up.
    """
    data, attempts = crew.ray.data, crew.ray.remote(num_cpus=0)(Attempts)
    context = data.DataContext.get_current()
    context.enable_progress_bars = context.print_on_execution_start = False
    try:
        counter = attempts.remote()
        crew.ray.get(counter.begin.remote(-1), timeout=_START_S)
        # One block a scan: what a worker that dies takes with it is the one that it was judging.
        # Ray restarts the worker and gives it that scan again; `Judge` counts how often.
        rows = [
            {"index": index, "path": row.path, "reading": json.dumps(dict(row.reading))}
            for index, row in scans
        ]
        judged = data.from_items(rows, override_num_blocks=len(rows)).map(
            Judge,
            fn_constructor_kwargs={
                "plan": asdict(plan),
                "threads": crew.threads,
                "attempts": counter,
            },
            compute=data.ActorPoolStrategy(
                size=min(crew.workers, len(rows)), max_tasks_in_flight_per_actor=1
            ),
            num_cpus=crew.threads,
            num_gpus=crew.gpus or None,
        )
        for block in judged.iter_batches(
            prefetch_batches=0, batch_size=None, batch_format="pyarrow"
        ):
            yield from block.to_pylist()
    except (crew.ray.exceptions.RayError, OSError) as error:
        raise RuntimeUnavailable(
            "Ray did not finish the batch",
            found=f"{type(error).__name__}: {error}",
            fix="look whether its machines run, have ctedge of this version and enough memory;"
            " then go on with the same command and --resume",
        ) from error


def _refuse_the_impossible(threads: int, device: str) -> None:
    """Raise RuntimeUnavailable for a worker that this machine cannot have, before Ray starts."""
    cores = usable_cpus()
    if threads > cores:
        raise RuntimeUnavailable(
            "this machine has too few cores for a worker",
            found=f"{cores} that this process may use",
            expected=f"{threads} for each, as --threads-per-worker says",
            fix=f"take --threads-per-worker {cores} at most",
        )
    if device == "cuda" and find_device() is None:
        raise no_device(
            "no NVIDIA GPU is found on this machine",
            fix="install the driver, take --device cpu, or join a cluster with GPUs by --address",
        )
    require_loopback()


def _settle_environment(*, local: bool) -> None:
    """Tell Ray, which asks while it is imported; so are the processes that it starts."""
    os.environ.update(_QUIET | (_LOOPBACK if local else {}))
    if local and "RAY_AUTH_MODE" not in os.environ:
        # Ray itself would keep a token in the home folder.
        os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}


def _import_ray() -> ModuleType:
    purpose = "judging a batch of scans"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        require("pyarrow", extra="ray", purpose=purpose)
        require("ray.data", extra="ray", purpose=purpose)
        ray = require("ray", extra="ray", purpose=purpose)
    logger = logging.getLogger("ray.data")  # its file in Ray's own folder has everything
    for handler in [one for one in logger.handlers if isinstance(one, logging.StreamHandler)]:
        logger.removeHandler(handler)
    return ray


@contextlib.contextmanager
def _hushed() -> Iterator[None]:
    """Without Ray's own words: it prints to standard output, where answers stand."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


def _start(ray: ModuleType, *, cpus: int) -> str:
    """Start Ray; the folder of its sockets and logs, which stays where it does not start."""
    folder = _new_folder()
    try:
        # Its C++ part writes a line to standard error about its own log level.
        with native_stderr_dropped(), nobody_outside_asked():
            ray.init(
                address="local",
                num_cpus=cpus,
                include_dashboard=False,
                object_store_memory=_STORE_BYTES,
                log_to_driver=False,
                logging_level=logging.CRITICAL,
                _temp_dir=folder,
            )
    except Exception as error:  # Ray raises many kinds, of ports, folders and memory
        raise RuntimeUnavailable(
            "Ray does not start on this machine",
            found=f"{type(error).__name__}: {error}",
            fix=f"look into {folder}/session_latest/logs; it needs space there and in /dev/shm",
        ) from error
    except BaseException:  # Ctrl-C, SIGTERM
        _leave(ray, folder)
        raise
    return folder


def _new_folder() -> str:
    """A folder of this one run, where Ray itself would have its own, or where its sockets fit."""
    usual = os.environ.get("RAY_TMPDIR") or temporary_folder()
    short = os.name != "posix" or len(os.fsencode(usual)) <= _LONGEST_FOLDER
    place = usual if short else "/tmp"  # noqa: S108
    try:
        Path(usual).mkdir(parents=True, exist_ok=True)
        return tempfile.mkdtemp(prefix="ctedge-", dir=place)
    except OSError as error:
        raise OutputError(
            f"Ray can have no folder in {place}",
            found=error.strerror,
            fix="name one in RAY_TMPDIR that this user may write, in a short path",
        ) from error


def _leave(ray: ModuleType, folder: str | None) -> None:
    """Leave the cluster; one of our own ends with all that it wrote."""
    try:
        ray.shutdown(wait_for_processes=folder is not None)
    finally:  # also where a second Ctrl-C is not waiting for that
        if folder is not None:
            remove_folder(folder)


def _join(ray: ModuleType, address: str) -> None:
    try:
        # Ray itself would wait for minutes for one that is not there.
        host, _, port = address.rpartition(":")
        with socket.create_connection((host.strip("[]"), int(port)), timeout=TIMEOUT_S):
            pass
        ray.init(address=address, log_to_driver=False, logging_level=logging.CRITICAL)
    except Exception as error:  # Ray raises many kinds on what answers there
        raise RuntimeUnavailable(
            f"no Ray cluster answers at {address!r}",
            found=f"{type(error).__name__}: {error}",
            expected="HOST:PORT of its head, as in 10.0.0.5:6379; this machine is part of it, and"
            " has the same versions of Python and Ray",
            fix="start one with `ray start --head`, and `ray start --address HOST:PORT` on each"
            " further machine; where it asks for a token, set RAY_AUTH_MODE=token and"
            " RAY_AUTH_TOKEN",
        ) from error


def _crew(ray: ModuleType, place: str, *, workers: int | None, threads: int, device: str) -> Crew:
    machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    gpus = sum(int(machine.get("GPU", 0)) for machine in machines)
    each = 1 if device == "cuda" or (device == "auto" and gpus) else 0
    room = sum(_room(machine, threads, each) for machine in machines)
    crew = room if workers is None else workers
    if not 1 <= crew <= room:
        raise RuntimeUnavailable(
            f"{place} has no room for {'a worker' if crew < 2 else f'{crew} workers'}",
            found=f"cores {[int(machine.get('CPU', 0)) for machine in machines]},"
            f" {counted(gpus, 'GPU')}",
            expected=f"{counted(threads, 'core')}{' and a GPU' if each else ''} for each",
            fix="take fewer --workers, fewer --threads-per-worker or another --device",
        )
    return Crew(ray=ray, workers=crew, threads=threads, gpus=each)


def _room(machine: Mapping[str, float], threads: int, gpus: int) -> int:
    """How many workers a machine takes."""
    cores = int(machine.get("CPU", 0)) // threads
    return min(cores, int(machine.get("GPU", 0))) if gpus else cores
