"""Preprocessing on a Dask cluster: the same function, on other machines.

The machines share the file system with the scans and the store, and have ctedge installed. Where
the cluster speaks TLS, its certificates come from Dask's own configuration.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Sequence
from types import ModuleType
from typing import Any

from ctedge.errors import CTEdgeError, RuntimeUnavailable
from ctedge.extras import require
from ctedge_training.datasets.store import Each

#: A scheduler that has not answered by then is not there.
TIMEOUT_S = 5.0

#: One that answers, and has no worker by then, has none.
WORKERS_S = 5.0


@contextlib.contextmanager
def on_cluster(address: str) -> Iterator[Each]:
    """What distributes work over the workers of a scheduler, as `ctedge.pool.each` does locally.

    Args:
        address: of the Dask scheduler, as in "tcp://10.0.0.5:8786".

    Raises:
        RuntimeUnavailable: no scheduler answers there, it has no workers, or what they run fails
            for another reason than the data.
        MissingExtra: dask is absent.
    """
    distributed = require("distributed", extra="cluster", purpose="preparing on a cluster")
    _refuse_absent(distributed, address)
    with distributed.Client(address, timeout=TIMEOUT_S, set_as_default=False) as client:
        _wait_for_workers(distributed, client, address)

        def each(
            work: Callable[[Any], Any], items: Sequence[Any], *, workers: int
        ) -> Iterator[tuple[int, Any]]:
            # Which machine works how much is the cluster's affair, not `workers`'.
            futures = client.map(work, items, pure=False)
            places = {future.key: index for index, future in enumerate(futures)}
            try:
                for future in distributed.as_completed(futures, loop=client.loop):
                    yield places[future.key], _result(future, address)
            finally:
                client.cancel(futures)

        yield each


def _refuse_absent(distributed: ModuleType, address: str) -> None:
    """Ask before a client is made: one that finds nobody complains until the process ends."""

    async def ask() -> None:
        security = distributed.Security().get_connection_args("client")
        async with distributed.rpc(address, timeout=TIMEOUT_S, connection_args=security) as there:
            # What listens there may be no Dask, and never answer.
            found = await asyncio.wait_for(there.identity(), TIMEOUT_S)
        if found["type"] != "Scheduler":
            raise ValueError(f"a {found['type']} listens there")

    try:
        distributed.utils.LoopRunner().run_sync(ask)
    except Exception as error:  # Dask raises many kinds on addresses and on what answers there
        raise RuntimeUnavailable(
            f"no Dask scheduler answers at {address!r}",
            found=f"{type(error).__name__}: {error}",
            expected="an address as in tcp://10.0.0.5:8786",
            fix="start one with `dask scheduler`, and workers with `dask worker ADDRESS`",
        ) from error


def _wait_for_workers(distributed: ModuleType, client: Any, address: str) -> None:
    try:
        client.wait_for_workers(1, timeout=WORKERS_S)
    except distributed.TimeoutError as error:
        raise RuntimeUnavailable(
            f"the Dask scheduler {address} has no workers",
            fix=f"start `dask worker {address}` on the machines that are to work",
        ) from error


def _result(future: Any, address: str) -> Any:
    try:
        return future.result()
    except CTEdgeError:
        raise
    except Exception as error:
        raise RuntimeUnavailable(
            f"the Dask cluster {address} did not finish the work",
            found=f"{type(error).__name__}: {error}",
            fix="look into the logs of its workers; they need ctedge of this version, and enough"
            " memory",
        ) from error
