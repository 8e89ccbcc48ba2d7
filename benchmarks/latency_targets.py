"""What ctedge promises of its speed on two cores, against peers of the same run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from latency_views import Row, View

#: The scan that the promises speak of.
SCAN = "512 x 512 x 300"


@dataclass(frozen=True, kw_only=True)
class Reached:
    """What was measured.

    Attributes:
        value: a ratio of medians, or seconds.
        least: the ratio of the least times, which other work on the machine moves least; None
            where the result has none.
        by: the candidate that reached it.
        spread: how many runs the published pipeline had, and their coefficient of variation.
    """

    value: float
    least: float | None
    by: str
    spread: str


@dataclass(frozen=True, kw_only=True)
class Target:
    """A promise.

    Attributes:
        what: in words.
        limit: times at least, or seconds at most.
        seconds: it is a time, not a ratio.
        reached: finds what was measured.
    """

    what: str
    limit: float
    seconds: bool = False
    reached: Callable[[View], Reached | None]

    def verdict(self, found: Reached) -> str:
        """Medians and least times must both keep the promise; where they disagree, none did."""
        held = {self._holds(value) for value in (found.value, found.least) if value is not None}
        if held == {True}:
            return "reached"
        return "**unsteady**" if len(held) > 1 else "**not reached**"

    def _holds(self, value: float) -> bool:
        return value <= self.limit if self.seconds else value >= self.limit


def _best(
    view: View, ending: str, stage: str, rows: Callable[[View, str], Row | None]
) -> Reached | None:
    """The largest ratio of a stage among ctedge's rows whose name ends so."""
    published = rows(view, view.published)
    if published is None or stage not in published["stages"]:
        return None
    times = published["stages"][stage]
    found = [
        Reached(
            value=ratio,
            least=view.ratio(published, rows(view, peer), stage, by="least_ms"),
            by=peer,
            spread=f"{times['n']} runs, {times['cv']:.0%}",
        )
        for peer in view.peers
        if peer.startswith("ctedge") and peer.endswith(ending)
        if (ratio := view.ratio(published, rows(view, peer), stage)) is not None
    ]
    return max(found, key=lambda one: one.value, default=None)


def _warm(view: View, peer: str) -> Row | None:
    return view.warm(peer, SCAN)


def _cold(view: View, peer: str) -> Row | None:
    return view.cold(peer, SCAN)


def _network(view: View, peer: str) -> Row | None:
    return view.network(peer)


def _start(view: View) -> Reached:
    start = view.document["cold_start"]
    times, command = start["parts"]["first answer"], start["command"]["p50_ms"] / 1e3
    return Reached(
        value=times["p50_ms"] / 1e3,
        least=None,
        by=f"a script, {start['candidate']} (`ctedge predict`, to its end: {command:.2f} s)",
        spread=f"{times['n']} runs, {times['cv']:.0%}",
    )


TARGETS = (
    Target(
        what=f"{SCAN} .nii.gz to answer, warm, against the published pipeline",
        limit=12,
        reached=lambda view: _best(view, "", "total", _warm),
    ),
    Target(
        what="the same cold, process start to answer",
        limit=15,
        reached=lambda view: _best(view, "", "cold", _cold),
    ),
    Target(
        what=f"{SCAN} in memory to answer, INT8",
        limit=80,
        reached=lambda view: _best(view, "int8", "in memory", _warm),
    ),
    Target(
        what="network alone against Keras, bfloat16",
        limit=2,
        reached=lambda view: _best(view, "bf16", "network", _network),
    ),
    Target(
        what="network alone against Keras, INT8",
        limit=3.5,
        reached=lambda view: _best(view, "int8", "network", _network),
    ),
    Target(
        what="process start to the first answer, a scan of MosMed's size, ONNX Runtime",
        limit=0.8,
        seconds=True,
        reached=_start,
    ),
)


def target_rows(view: View) -> Iterator[str]:
    """One line of Markdown a promise; one that is not kept says so."""
    yield "| target | wanted | medians | least times | by | spread | |"
    yield "| --- | ---: | ---: | ---: | --- | --- | --- |"
    for target in TARGETS:
        unit, bound = ("s", "at most") if target.seconds else ("times", "at least")
        wanted = f"{bound} {target.limit:g} {unit}"
        found = target.reached(view)
        if found is None:
            yield f"| {target.what} | {wanted} | | | | | **not measured** |"
            continue
        cells = [target.what, wanted, _figure(found.value, unit), _figure(found.least, unit)]
        yield f"| {' | '.join([*cells, found.by, found.spread, target.verdict(found)])} |"


def _figure(value: float | None, unit: str) -> str:
    if value is None:
        return ""
    return f"{value:.{2 if value < 10 else 1}f} {unit}"
