"""What each node of a cluster did: for the progress bar, and for the bill."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class NodeCost:
    """node: its name. workers: how many ran there. pieces: finished parts. items: images, neurons or texts in
    them. seconds: worker-seconds spent on those, without what was lost.
    """

    node: str
    workers: int
    pieces: int
    items: int
    seconds: float

    @property
    def rate(self) -> float:
        """Items a second while its workers worked, all of them together."""
        return self.items * self.workers / self.seconds if self.seconds else 0.0


class Costs:
    """Adds up what pieces cost."""

    def __init__(self, workers: Iterable[str]) -> None:
        names = list(workers)
        self._of = {node: NodeCost(node, names.count(node), 0, 0, 0.0) for node in names}

    def add(self, node: str, items: int, seconds: float) -> None:
        """Count one finished piece."""
        # A worker that was restarted elsewhere works on a node that had none.
        known = self._of.get(node, NodeCost(node, 1, 0, 0, 0.0))
        self._of[node] = NodeCost(node, known.workers, known.pieces + 1, known.items + items, known.seconds + seconds)

    def nodes(self) -> list[NodeCost]:
        """One entry a node, in the order in which workers started."""
        return list(self._of.values())


class Tally:
    """Counts images as they are done; an actor that every worker tells. A part that is repeated counts from zero."""

    def __init__(self) -> None:
        self._done: dict[int, tuple[str, int]] = {}

    def put(self, piece: int, node: str, items: int) -> None:
        """`items` of a piece are done."""
        self._done[piece] = (node, items)

    def clear(self) -> None:
        """Begin anew."""
        self._done = {}

    def read(self) -> dict[str, int]:
        """Items by node."""
        totals: dict[str, int] = {}
        for node, items in self._done.values():
            totals[node] = totals.get(node, 0) + items
        return totals
