"""What a stretch of time took: energy, heat, throttling."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from edgeslm.sensors import Sensors, find_sensors, numbers

INTERVAL_S = 0.2  # between samples; drivers renew their values about as often


@dataclass(frozen=True)
class Usage:
    """What was measured; None: not available here. Nothing is subtracted for what an idle machine takes."""

    seconds: float
    joules: float | None
    energy_source: str  # what `joules` counts, which differs from machine to machine; where it is None, why
    celsius: float | None  # the processor's highest temperature
    throttling: list[str] | None  # what slowed the processor down; empty: nothing did

    def per_joule(self, tokens: int) -> float | None:
        """Tokens per joule."""
        return tokens / self.joules if self.joules else None


def add_usage(parts: Sequence[Usage]) -> Usage:
    """What several stretches took together, one at least."""
    joules = [part.joules for part in parts if part.joules is not None]
    degrees = [part.celsius for part in parts if part.celsius is not None]
    slowed = [part.throttling for part in parts if part.throttling is not None]
    return Usage(
        seconds=sum(part.seconds for part in parts),
        joules=sum(joules) if len(joules) == len(parts) else None,
        energy_source=parts[0].energy_source,
        celsius=max(degrees, default=None),
        throttling=list(dict.fromkeys(reason for reasons in slowed for reason in reasons)) if slowed else None,
    )


class Meter:
    """Watches the sensors from ``start`` to ``stop``, any number of times.

    Counters are read at both ends; a thread samples what only shows the present, if there is such a sensor.
    """

    def __init__(
        self, sensors: Sensors | None = None, interval_s: float = INTERVAL_S, clock: Callable[[], float] = monotonic
    ) -> None:
        self.sensors = find_sensors() if sensors is None else sensors
        self._counted = [c.path for c in self.sensors.counters] + self.sensors.throttle_counts
        self._interval_s, self._clock = interval_s, clock
        self._sampler: threading.Thread | None = None
        self._stopped = threading.Event()

    def start(self) -> None:
        """Begin; what was measured before is forgotten."""
        self._stopped.clear()
        self._began = self._last = self._clock()
        self._sampled_joules = 0.0
        self._hottest: int | None = None
        self._reasons: dict[str, None] = {}
        self._before = numbers(self._counted)
        self.sample()
        if self.sensors.any_to_sample:
            self._sampler = threading.Thread(target=self._keep_sampling, name="edgeslm-meter", daemon=True)
            self._sampler.start()

    def stop(self) -> Usage:
        """End, and say what it took."""
        self._stopped.set()
        if self._sampler is not None:
            self._sampler.join()
            self._sampler = None
        self.sample()
        after = numbers(self._counted)
        if any(after.get(p, 0) > self._before.get(p, 0) for p in self.sensors.throttle_counts):
            self._reasons["thermal throttling"] = None
        return Usage(
            seconds=self._clock() - self._began,
            joules=self._sampled_joules if self.sensors.watts else self._counted_joules(after),
            energy_source=self.sensors.energy_source,
            celsius=None if self._hottest is None else self._hottest / 1000,
            throttling=list(self._reasons) if self.sensors.knows_throttling else None,
        )

    def sample(self) -> None:
        """Look once at what only shows the present."""
        now = self._clock()
        watts = sum(w for read in self.sensors.watts if (w := read()) is not None)
        self._sampled_joules += watts * (now - self._last)
        self._last = now
        self._hottest = max((d for d in (self._hottest, self.sensors.hottest()) if d is not None), default=None)
        self._reasons.update(dict.fromkeys(reason for read in self.sensors.slowdowns for reason in read()))

    def _keep_sampling(self) -> None:
        while not self._stopped.wait(self._interval_s):
            self.sample()

    def _counted_joules(self, after: dict[Path, int]) -> float | None:
        counters = self.sensors.counters
        if not counters or any(c.path not in after or c.path not in self._before for c in counters):
            return None
        return sum(c.moved(self._before[c.path], after[c.path]) for c in counters) / 1e6
