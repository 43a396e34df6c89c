"""From prompts to answers: greedy or beam search over many prompts at once, refilled as answers end."""

from __future__ import annotations

import math
import threading
from array import array
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from edgeslm.engines.protocol import Engine, GreedyEngine, Logits
from edgeslm.engines.session import MAX_TOGETHER, Session, forward_together
from edgeslm.errors import RewindError
from edgeslm.lazy_numpy import np
from edgeslm.translation import scoring

if TYPE_CHECKING:
    import numpy.typing as npt

MAX_PERIOD, COPIES = 8, 4  # tokens of a loop, and how often it must come to have run away; as native/greedy.c has it
REFILLS = 8  # of a batch: new queries join in once so many parts of it have come to an end


class Query(NamedTuple):
    """One answer to find."""

    prompt: list[int]
    limit: int  # tokens
    beams: int = 1
    fresh: bool = False  # no three tokens twice: what is asked of a search whose answer ran away


class Candidate(NamedTuple):
    """An answer, its log probability per token, its end counted, and whether it came to a proper end."""

    tokens: list[int]
    score: float
    sound: bool


class Greedy:
    """The likeliest token, step by step."""

    def __init__(self, query: Query, session: Session, ends: frozenset[int]) -> None:
        self.query, self._ends, self._tokens, self._score = query, ends, list[int](), 0.0
        self.sessions, self.feed = [session], [query.prompt[session.length :]]
        self.found: list[Candidate] = []

    def take(self, logits: Logits, best: Sequence[int]) -> None:
        """Go on from the logits (1, vocab) behind what was fed; ``found`` has the answer once it has come to an end.

        Args:
            best: the likeliest token of each row.
        """
        tokens, token = self._tokens, best[0]
        if self.query.fresh:
            _ban_repeats(logits[0], tokens)
            token = int(logits[0].argmax())
        self._score -= math.log(np.exp(logits[0] - logits[0, token]).sum(dtype=np.float64))
        if token in self._ends:
            self._end(True)
            return
        tokens.append(token)
        if len(tokens) == self.query.limit or runs_in_circles(tokens):
            self._end(False)
        else:
            self.feed = [[token]]

    def _end(self, sound: bool) -> None:
        self.found = [_candidate(self._tokens, self._score, sound)]


def _candidate(tokens: list[int], score: float, sound: bool) -> Candidate:
    return Candidate(tokens, score / (len(tokens) + sound), sound)


class _Beam(NamedTuple):
    session: Session
    tokens: list[int]
    score: float


class Beams:
    """Beam search: the answers of the highest log probability per token that are found in ``beams`` lines at a time."""

    def __init__(self, query: Query, session: Session, ends: frozenset[int]) -> None:
        self.query, self._ends, self._lines = query, ends, [_Beam(session, [], 0.0)]
        self._looked_at = query.beams * (1 + len(ends))  # so that as many are left where every line ends
        self._ended: list[Candidate] = []
        self.feed = [query.prompt[session.length :]]
        self.found: list[Candidate] = []

    @property
    def sessions(self) -> list[Session]:
        """Of the lines; the first is the one that the search was given, or its descendant."""
        return [line.session for line in self._lines]

    def take(self, logits: Logits, best: Sequence[int]) -> None:
        """As :meth:`Greedy.take`, from the logits (lines, vocab)."""
        width, lines = self.query.beams, self._lines
        if self.query.fresh:
            for row, line in zip(logits, lines, strict=True):
                _ban_repeats(row, line.tokens)
        ids, scores = _best(logits, self._looked_at)
        scores += [[line.score] for line in lines]
        chosen: list[tuple[int, int, float]] = []  # line, token, score
        for at in sorted(range(scores.size), key=lambda i: (-scores.flat[i], i))[: self._looked_at]:
            line, token, score = at // scores.shape[1], int(ids.flat[at]), float(scores.flat[at])
            if token in self._ends:
                tokens = lines[line].tokens
                self._ended.append(_candidate(tokens, score, sound=True))
            elif len(chosen) < width:
                chosen.append((line, token, score))
        self._lines = self._next_lines(chosen)
        self.feed = [line.tokens[-1:] for line in self._lines]
        self._finish()

    def _next_lines(self, chosen: Sequence[tuple[int, int, float]]) -> list[_Beam]:
        """The first child of a line goes on with its session, others with copies of it."""
        old, free = self._lines, {i: line.session for i, line in enumerate(self._lines)}
        new: list[_Beam] = []
        for i, token, score in chosen:
            session = free.pop(i, None) or old[i].session.fork()
            new.append(_Beam(session, [*old[i].tokens, token], score))
        for session in free.values():
            session.close()
        return new

    def _finish(self) -> None:
        width, length = self.query.beams, len(self._lines[0].tokens)
        self._ended = sorted(self._ended, key=lambda c: -c.score)[:width]
        best_left = self._lines[0].score / length  # no continuation can score better than it does without its end
        if length < self.query.limit and not (len(self._ended) == width and self._ended[-1].score >= best_left):
            return
        rest = [_candidate(line.tokens, line.score, sound=False) for line in self._lines]
        self.found = self._ended or rest


def runs_in_circles(tokens: Sequence[int]) -> bool:
    """Do the last tokens repeat themselves, ``COPIES`` times or more?"""
    last, count = tokens[-1], len(tokens)
    for period in range(1, min(MAX_PERIOD, count // COPIES) + 1):
        if tokens[-1 - period] == last:
            tail = tokens[count - period * COPIES :]
            if tail[period:] == tail[:-period]:
                return True
    return False


def _ban_repeats(row: Logits, tokens: Sequence[int]) -> None:
    """No three tokens in a row twice."""
    before = tuple(tokens[-2:])
    for i in range(len(tokens) - 2):
        if (tokens[i], tokens[i + 1]) == before:
            row[tokens[i + 2]] = -np.inf


def _best(logits: Logits, count: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float64]]:
    """The ``count`` likeliest tokens of each row in the order of their ids, or all, and their log probabilities."""
    count = min(count, logits.shape[1])
    ids = np.sort(np.argpartition(logits, -count, axis=1)[:, -count:], axis=1)
    shifted = logits - logits.max(axis=1, keepdims=True)
    sums = np.exp(shifted).sum(axis=1, keepdims=True, dtype=np.float64)
    return ids, np.take_along_axis(shifted, ids, axis=1) - np.log(sums)


class _Waiting:
    """Queries, handed out to several threads as they have room; None among them are skipped."""

    def __init__(self, queries: Iterable[Query | None], count: int, takers: int) -> None:
        self._rest = ((at, query) for at, query in enumerate(queries) if query is not None)
        self._count, self.takers = count, takers
        self._lock = threading.Lock()
        self._next = next(self._rest, None)

    def share(self) -> int:
        """How many one of the takers may take, so that near the end there is something for all."""
        waiting = self._next
        return 0 if waiting is None else -(-(self._count - waiting[0]) // self.takers)

    def take(self, room: int) -> tuple[int, Query] | None:
        """The next one and its number, if it has no more beams than there is room for."""
        with self._lock:
            if self._next is None or self._next[1].beams > room:
                return None
            taken, self._next = self._next, None  # none where making the next one fails
            self._next = next(self._rest, None)
            return taken

    def send_home(self) -> None:
        """Hand out no more."""
        with self._lock:
            self._next = None


class _Stepwise:
    """Searches of any kind on any engine, which go on together by a token at a time."""

    def __init__(self, engine: Engine, ends: frozenset[int]) -> None:
        self._engine, self._ends = engine, ends
        self._running: dict[int, Greedy | Beams] = {}
        self._spare: list[Session] = []  # of searches that are over, to be used again

    def start(self, at: int, query: Query) -> None:
        session = self._spare.pop() if self._spare else self._engine.new_session()
        shared = _shared(session.ids.tolist()[: len(query.prompt)], query.prompt)
        try:
            session.truncate(min(shared, len(query.prompt) - 1))
        except RewindError:
            session.truncate(0)
        self._running[at] = (Greedy if query.beams == 1 else Beams)(query, session, self._ends)

    def run(self) -> list[tuple[int, list[Candidate]]]:
        """One step; those that have come to an end."""
        _step(list(self._running.values()))
        ended = [at for at, search in self._running.items() if search.found]
        return [(at, self._end(self._running.pop(at))) for at in ended]

    def _end(self, search: Greedy | Beams) -> list[Candidate]:
        first, *others = search.sessions
        for session in others:
            session.close()
        self._spare.append(first)
        return search.found

    def close(self) -> None:
        for session in [*self._spare, *(s for search in self._running.values() for s in search.sessions)]:
            session.close()


class _Greedily:
    """Greedy searches on an engine that takes the tokens itself."""

    def __init__(self, engine: GreedyEngine, ends: frozenset[int], slots: int) -> None:
        self._batch = engine.greedy(slots, ends)
        self._wanted = max(1, slots // REFILLS)

    def start(self, at: int, query: Query) -> None:
        self._batch.start(at, array("i", query.prompt), query.limit, query.fresh)

    def run(self) -> list[tuple[int, list[Candidate]]]:
        """Those that have come to an end, some or all."""
        ended = self._batch.run(self._wanted)
        return [(at, [_candidate(tokens, score, sound)]) for at, tokens, sound, score in ended]


class _Worker:
    """An engine and the queries that it is at."""

    def __init__(self, engine: Engine, ends: frozenset[int], batch: int) -> None:
        self._batch, self._queries, self._lines = batch, dict[int, Query](), 0
        self._stepwise = _Stepwise(engine, ends)
        self._greedy = _Greedily(engine, ends, batch) if isinstance(engine, GreedyEngine) else self._stepwise

    def start(self, at: int, query: Query) -> None:
        self._queries[at] = query
        self._lines += query.beams
        self._runner(query).start(at, query)

    def _runner(self, query: Query) -> _Stepwise | _Greedily:
        return self._greedy if query.beams == 1 else self._stepwise

    @property
    def room(self) -> int:
        """Sequences that may join in; any number that can run at all where there are none."""
        return self._batch - self._lines if self._lines else MAX_TOGETHER

    def run(self) -> dict[int, list[Candidate]]:
        """Go on until some queries have answers; those that ran away are asked again."""
        found: dict[int, list[Candidate]] = {}
        for runner in {self._runner(query) for query in self._queries.values()}:
            for at, candidates in runner.run():
                query = self._queries.pop(at)
                self._lines -= query.beams
                if candidates[0].sound or query.fresh:
                    found[at] = candidates
                else:
                    self.start(at, query._replace(fresh=True))
        return found

    def close(self) -> None:
        self._stepwise.close()

    def __len__(self) -> int:
        return len(self._queries)


class Searcher:
    """Runs queries on engines of one model, each in a thread of its own, several sessions together in each."""

    def __init__(
        self, engines: Iterable[Engine], ends: frozenset[int], batch: int, more: Iterable[Callable[[], Engine]] = ()
    ) -> None:
        """
        Args:
            engines: with the same weights.
            ends: tokens that end an answer.
            batch: the number of sequences that an engine runs together at most.
            more: open further engines, which is put off until there is something to do for them.
        """
        self._engines, self._workers = list[Engine](), list[_Worker]()
        self._more, self._ends, self._batch = list(more), ends, batch
        for engine in engines:
            self._add(engine)

    def _add(self, engine: Engine) -> None:
        self._engines.append(engine)
        self._workers.append(_Worker(engine, self._ends, self._batch))

    def run(self, queries: Iterable[Query | None], count: int) -> list[list[Candidate]]:
        """The answers to each query, best first; those of a query do not depend on the others.

        An answer that ran away is searched again, with no three tokens twice.

        Args:
            queries: each is taken, and so made, by the thread that runs it; None has no answers. The longest first, so
                that all threads end together.
            count: of them.
        """
        found: list[list[Candidate]] = [[] for _ in range(count)]
        waiting = _Waiting(queries, count, self._takers(count))
        self._share(waiting.takers, lambda number: self._work(number, waiting, found), waiting.send_home)
        return found

    def score(self, jobs: Sequence[tuple[list[int], list[list[int]]]]) -> list[list[float]]:
        """Of prompts and answers to each, the answers' log probabilities per token, their end counted."""
        found: list[list[float]] = [[] for _ in jobs]
        takers, ends = self._takers(len(jobs)), sorted(self._ends)

        def work(number: int) -> None:
            with self._engines[number].new_session() as session:
                for at in range(number, len(jobs), takers):
                    found[at] = scoring.score(session, *jobs[at], ends)

        self._share(takers, work)
        return found

    def _takers(self, count: int) -> int:
        """Engines that so many things to do are shared out to, opened."""
        takers = max(1, min(len(self._engines) + len(self._more), count))
        while len(self._engines) < takers:
            self._add(self._more[-1]())
            self._more.pop()  # only now: it may have failed
        return takers

    def _share(self, takers: int, work: Callable[[int], None], give_up: Callable[[], None] = lambda: None) -> None:
        """Work with the first engines, each in a thread."""
        if takers <= 1:
            work(0)
            return
        from concurrent.futures import ThreadPoolExecutor  # takes a while

        with ThreadPoolExecutor(takers) as pool:
            try:
                for future in [pool.submit(work, number) for number in range(takers)]:
                    future.result()
            finally:
                give_up()

    def _work(self, number: int, waiting: _Waiting, found: list[list[Candidate]]) -> None:
        worker = self._workers[number]
        try:
            while True:
                for _ in range(waiting.share()):
                    if (asked := waiting.take(worker.room)) is None:
                        break
                    worker.start(*asked)
                if not worker:
                    return
                for at, candidates in worker.run().items():
                    found[at] = candidates
        except BaseException:
            worker.close()
            self._workers[number] = _Worker(self._engines[number], self._ends, self._batch)
            raise

    def close(self) -> None:
        """Free the engines, and with them the sessions that were kept for reuse."""
        for engine in self._engines:
            engine.close()


def _step(searches: Sequence[Greedy | Beams]) -> None:
    """The next token of each."""
    sessions = [session for search in searches for session in search.sessions]
    logits = forward_together(sessions, [ids for search in searches for ids in search.feed])
    best, start = logits.argmax(axis=1).tolist(), 0
    for search in searches:
        rows = slice(start, start + len(search.feed))
        search.take(logits[rows], best[rows])
        start = rows.stop


def _shared(a: Sequence[int], b: Sequence[int]) -> int:
    """How many tokens two sequences begin with in common."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
