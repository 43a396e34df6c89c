"""What Linux tells in sysfs about this machine's energy, heat and throttling: which files, and how to read them.

Energy comes from the first of these that can be read:
    powercap (RAPL)     counters of the processor's packages, and of memory where it is counted beside them
    hwmon counters      energyN_input, in µJ
    hwmon power         powerN_input or powerN_average, in µW
    battery             power_now, or current_now and voltage_now, while it discharges: the whole device

Sources: the kernel's Documentation/ABI (sysfs-class-powercap, -hwmon, -thermal, -power, sysfs-devices-system-cpu); the
bits of get_throttled as Raspberry Pi documents them for vcgencmd.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

_HEAT = range(-40_000, 150_000)  # millidegrees that a sensor can mean; others stand for "unknown"
_CPU_ZONES = ("x86_pkg_temp", "cpu", "soc", "tsens_tz_sensor")
_CPU_HWMONS = ("coretemp", "k10temp", "zenpower", "cpu_thermal")
_GPUS = ("amdgpu", "i915", "xe", "nouveau")  # their hwmon counts what we do not use
_PI_BITS = {0: "under-voltage", 1: "frequency capped", 2: "throttled", 3: "soft temperature limit"}


@dataclass(frozen=True)
class Counter:
    """A file that counts microjoules and starts again at 0 beyond ``range`` (0: never)."""

    path: Path
    range: int

    def moved(self, before: int, after: int) -> int:
        """Microjoules between two readings."""
        return after - before + (self.range if after < before else 0)


@dataclass(frozen=True)
class Sensors:
    """The sensors of a machine; lists are empty where it has none."""

    counters: list[Counter]  # of energy
    watts: list[Callable[[], float | None]]  # power now, where energy is not counted
    energy_source: str  # what they measure; where there are none, why
    heat: list[Path]  # of the processor, millidegrees
    throttle_counts: list[Path]  # that rise when the processor is throttled
    slowdowns: list[Callable[[], Iterable[str]]]  # what slows it down now, in words

    @property
    def any_to_sample(self) -> bool:
        """Does something show the present only?"""
        return bool(self.watts or self.heat or self.slowdowns)

    @property
    def knows_throttling(self) -> bool:
        """Could throttling be seen?"""
        return bool(self.throttle_counts or self.slowdowns)

    def hottest(self) -> int | None:
        """Millidegrees of the processor's hottest spot."""
        return max((d for path in self.heat if (d := number(path)) is not None and d in _HEAT), default=None)


def find_sensors(root: Path = Path("/")) -> Sensors:
    """What the sysfs below ``root`` offers."""
    sys = root / "sys"
    counters, watts, source = _energy(sys)
    counts = sys.glob("devices/system/cpu/cpu*/thermal_throttle/*_throttle_count")
    return Sensors(counters, watts, source, _heat(sys), _readable(counts), list(_slowdowns(sys)))


def numbers(paths: Iterable[Path]) -> dict[Path, int]:
    """What those of the files say that can be read."""
    return {path: value for path in paths if (value := number(path)) is not None}


def number(path: Path) -> int | None:
    """The whole number in a file; None where it cannot be read."""
    try:
        return int(_text(path))
    except ValueError:
        return None


def _energy(sys: Path) -> tuple[list[Counter], list[Callable[[], float | None]], str]:
    zones = [
        z for z in sorted(sys.glob("class/powercap/intel-rapl:*")) if _text(z / "name").startswith(("package", "dram"))
    ]
    counters = [Counter(z / "energy_uj", number(z / "max_energy_range_uj") or 0) for z in zones]
    if counters and all(number(c.path) is not None for c in counters):
        return counters, [], "RAPL: " + ", ".join(_text(z / "name") for z in zones)
    sensors = [s for s in sorted(sys.glob("class/hwmon/hwmon*")) if _measures_power(s)]
    counters = [Counter(path, 0) for sensor in sensors for path in _energy_files(sensor)]
    if counters:
        return counters, [], "hwmon: " + ", ".join(dict.fromkeys(_text(c.path.parent / "name") for c in counters))
    for sensor in sensors:
        power = _readable([*sensor.glob("power*_input"), *sensor.glob("power*_average")])
        if power:
            return [], [_micro(power[0])], f"hwmon: {_text(sensor / 'name')}"
    for supply in sorted(sys.glob("class/power_supply/*")):
        if _text(supply / "type") == "Battery" and _text(supply / "status") == "Discharging":
            return [], [_battery_watts(supply)], "battery: the whole device"
    return [], [], "not available: " + ("RAPL is readable by root alone" if zones else "no sensor")


def _measures_power(sensor: Path) -> bool:
    """Not that of a GPU; nor a power supply's, which stands below class/power_supply too, with its direction."""
    return _text(sensor / "name") not in _GPUS and not _text(sensor / "device" / "type")


def _energy_files(sensor: Path) -> list[Path]:
    """Counters of one hwmon: of whole sockets where it counts these and cores as well."""
    found = _readable(sensor.glob("energy*_input"))
    sockets = [p for p in found if _text(p.with_name(p.name.replace("input", "label"))).startswith("Esocket")]
    return sockets or found


def _micro(path: Path) -> Callable[[], float | None]:
    def read() -> float | None:
        value = number(path)
        return None if value is None else abs(value) / 1e6

    return read


def _battery_watts(supply: Path) -> Callable[[], float | None]:
    power, current, voltage = (_micro(supply / name) for name in ("power_now", "current_now", "voltage_now"))

    def read() -> float | None:
        watts = power()
        if watts is None and (amperes := current()) is not None and (volts := voltage()) is not None:
            watts = amperes * volts
        return watts

    return read


def _heat(sys: Path) -> list[Path]:
    """Temperatures of the processor."""
    zones = sorted(sys.glob("class/thermal/thermal_zone*"))
    found = _readable(z / "temp" for z in zones if _text(z / "type").lower().startswith(_CPU_ZONES))
    if found:
        return found
    sensors = [s for s in sorted(sys.glob("class/hwmon/hwmon*")) if _text(s / "name") in _CPU_HWMONS]
    return _readable(path for sensor in sensors for path in sensor.glob("temp*_input"))


def _slowdowns(sys: Path) -> Iterator[Callable[[], Iterable[str]]]:
    for pattern in ("devices/platform/*firmware/get_throttled", "devices/platform/*/*firmware/get_throttled"):
        for path in _readable(sys.glob(pattern)):
            yield partial(_pi_states, path)
    for sensor in sorted(sys.glob("class/hwmon/hwmon*")):
        if _text(sensor / "name") == "rpi_volt":
            yield partial(_alarm, sensor / "in0_lcrit_alarm", "under-voltage")
    for cooler in sorted(sys.glob("class/thermal/cooling_device*")):
        if "cpufreq" in (kind := _text(cooler / "type")) or kind == "Processor":
            yield partial(_alarm, cooler / "cur_state", "thermal throttling")
    for policy in sorted(sys.glob("devices/system/cpu/cpufreq/policy*")):
        if number(policy / "scaling_max_freq") is not None:
            yield partial(_cap, policy)


def _alarm(path: Path, reason: str) -> list[str]:
    return [reason] if number(path) else []


def _pi_states(path: Path) -> list[str]:
    """What a Raspberry Pi's firmware says of now (bits above 15: of some time since it was started)."""
    try:
        bits = int(_text(path), 16)
    except ValueError:
        return []
    return [reason for bit, reason in _PI_BITS.items() if bits >> bit & 1]


def _cap(policy: Path) -> list[str]:
    cap, most = number(policy / "scaling_max_freq"), number(policy / "cpuinfo_max_freq")
    if not cap or not most or cap >= most:
        return []
    return [f"{policy.name} capped to {cap / 1e6:.2f} of {most / 1e6:.2f} GHz"]


def _readable(paths: Iterable[Path]) -> list[Path]:
    return [path for path in sorted(paths) if _text(path)]


def _text(path: Path) -> str:
    """What a file says; "" where it says nothing, is absent, or may not be read."""
    try:
        return path.read_text("ascii", "replace").strip()
    except OSError:
        return ""
