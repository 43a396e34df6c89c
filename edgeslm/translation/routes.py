"""Which languages lead to which, over all pairs there are."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from edgeslm.errors import ArgumentError
from edgeslm.translation.card import Pair

Route = tuple[Pair, ...]


class Routes:
    """The ways through some pairs, of one model or of several.

    Attributes:
        pairs: of which the first counts where several have the same source and target.
    """

    def __init__(self, pairs: Iterable[Pair]) -> None:
        self.pairs = tuple(pairs)

    @property
    def languages(self) -> list[str]:
        """All of them."""
        return list(dict.fromkeys(language for pair in self.pairs for language in (pair.source, pair.target)))

    def only_source(self, target: str | None) -> str | None:
        """The only language that can be translated from, directly to ``target`` if one is given; None if there are
        several."""
        found = {pair.source for pair in self.pairs if target in (None, pair.target)}
        return found.pop() if len(found) == 1 else None

    def target(self, source: str, target: str | None) -> str:
        """``target``, or the only language that there is a pair to from ``source``.

        Raises:
            ArgumentError: none was given, and there are several, or none.
        """
        if target is not None:
            return target
        found = list(dict.fromkeys(pair.target for pair in self.pairs if pair.source == source))
        if not found:
            raise ArgumentError(f"source {source!r}: no model here translates from it; there is {self._offer()}")
        if len(found) > 1:
            raise ArgumentError(
                f"target: none given, and there is {self._offer()}: give target=…, on the command line --to"
            )
        return found[0]

    def route(self, source: str, target: str) -> Route:
        """The pairs to go through, the fewest: one, or several where there is no direct one.

        Raises:
            ArgumentError: no way leads there, or it leads back.
        """
        if source == target:
            raise ArgumentError(
                f"{source}→{target}: there is nothing to translate; if the text is in another language, say which: "
                f"source=…, on the command line --from; there is {self._offer()}"
            )
        ways: deque[Route] = deque([()])
        seen = {source}
        while ways:
            way = ways.popleft()
            here = way[-1].target if way else source
            for pair in self.pairs:
                if pair.source == here and pair.target == target:
                    return (*way, pair)
                if pair.source == here and pair.target not in seen:
                    seen.add(pair.target)
                    ways.append((*way, pair))
        raise ArgumentError(f"{source}→{target}: no model here translates that; there is {self._offer()}")

    def _offer(self) -> str:
        return ", ".join(dict.fromkeys(map(str, self.pairs)))
