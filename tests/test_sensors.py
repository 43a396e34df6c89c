"""Energy, heat and throttling, read from sysfs trees as machines of several kinds have them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from time import monotonic, sleep

import pytest

from edgeslm.meter import Meter, Usage, add_usage
from edgeslm.sensors import find_sensors

# One tree each, as the machine shows it: path below /sys → content.
LAPTOP_INTEL = {
    "class/powercap/intel-rapl:0/name": "package-0",
    "class/powercap/intel-rapl:0/energy_uj": "1000000",
    "class/powercap/intel-rapl:0/max_energy_range_uj": "262143328850",
    "class/powercap/intel-rapl:0:0/name": "core",
    "class/powercap/intel-rapl:0:0/energy_uj": "400000",
    "class/powercap/intel-rapl:0:2/name": "dram",
    "class/powercap/intel-rapl:0:2/energy_uj": "200000",
    "class/powercap/intel-rapl:0:2/max_energy_range_uj": "65712999613",
    "class/powercap/intel-rapl-mmio:0/name": "package-0",  # the same again, by another way
    "class/powercap/intel-rapl-mmio:0/energy_uj": "1000000",
    "class/thermal/thermal_zone0/type": "acpitz",
    "class/thermal/thermal_zone0/temp": "27800",
    "class/thermal/thermal_zone9/type": "x86_pkg_temp",
    "class/thermal/thermal_zone9/temp": "61000",
    "class/thermal/cooling_device0/type": "Processor",
    "class/thermal/cooling_device0/cur_state": "0",
    "class/thermal/cooling_device8/type": "intel_powerclamp",
    "class/thermal/cooling_device8/cur_state": "-1",
    "devices/system/cpu/cpu0/thermal_throttle/core_throttle_count": "12",
    "devices/system/cpu/cpu0/thermal_throttle/package_throttle_count": "40",
    "devices/system/cpu/cpufreq/policy0/cpuinfo_max_freq": "4700000",
    "devices/system/cpu/cpufreq/policy0/scaling_max_freq": "4700000",
    "class/power_supply/BAT0/type": "Battery",
    "class/power_supply/BAT0/status": "Discharging",
    "class/power_supply/BAT0/power_now": "9000000",
}
DESKTOP_AMD = {
    "class/powercap/intel-rapl:0/name": "package-0",
    "class/powercap/intel-rapl:0/energy_uj": "65000000000",
    "class/powercap/intel-rapl:0/max_energy_range_uj": "65532610987",
    "class/powercap/intel-rapl:0:0/name": "core",
    "class/powercap/intel-rapl:0:0/energy_uj": "9",
    "class/thermal/cooling_device0/type": "Processor",
    "class/thermal/cooling_device0/cur_state": "0",
    "class/hwmon/hwmon0/name": "nvme",
    "class/hwmon/hwmon0/temp1_input": "70850",
    "class/hwmon/hwmon2/name": "k10temp",
    "class/hwmon/hwmon2/temp1_input": "54250",
    "class/hwmon/hwmon2/temp3_input": "49500",
    "class/hwmon/hwmon3/name": "amdgpu",
    "class/hwmon/hwmon3/power1_average": "21000000",
}
PI_5 = {
    "class/thermal/thermal_zone0/type": "cpu-thermal",
    "class/thermal/thermal_zone0/temp": "58900",
    "class/thermal/cooling_device0/type": "pwm-fan",
    "class/thermal/cooling_device0/cur_state": "2",
    "class/hwmon/hwmon0/name": "cpu_thermal",
    "class/hwmon/hwmon0/temp1_input": "58900",
    "class/hwmon/hwmon1/name": "rp1_adc",
    "class/hwmon/hwmon1/in1_input": "1431",
    "class/hwmon/hwmon3/name": "rpi_volt",
    "class/hwmon/hwmon3/in0_lcrit_alarm": "0",
    "devices/platform/soc@107c000000/soc@107c000000:firmware/get_throttled": "50000",
    "devices/system/cpu/cpufreq/policy0/cpuinfo_max_freq": "2400000",
    "devices/system/cpu/cpufreq/policy0/scaling_max_freq": "2400000",
}
PHONE = {
    "class/thermal/thermal_zone0/type": "battery",
    "class/thermal/thermal_zone0/temp": "31000",
    "class/thermal/thermal_zone1/type": "cpu-0-0-usr",
    "class/thermal/thermal_zone1/temp": "44300",
    "class/thermal/thermal_zone2/type": "cpu-1-0-usr",
    "class/thermal/thermal_zone2/temp": "52100",
    "class/thermal/thermal_zone3/type": "cpu-1-1-usr",
    "class/thermal/thermal_zone3/temp": "-273000",
    "class/thermal/cooling_device3/type": "thermal-cpufreq-2",
    "class/thermal/cooling_device3/cur_state": "4",
    "devices/system/cpu/cpufreq/policy4/cpuinfo_max_freq": "3105000",
    "devices/system/cpu/cpufreq/policy4/scaling_max_freq": "2401000",
    "class/power_supply/usb/type": "USB",
    "class/power_supply/battery/type": "Battery",
    "class/power_supply/battery/status": "Discharging",
    "class/power_supply/battery/current_now": "-750000",
    "class/power_supply/battery/voltage_now": "4000000",
}
SERVER = {
    "class/hwmon/hwmon0/name": "amd_energy",
    "class/hwmon/hwmon0/energy1_label": "Ecore000",
    "class/hwmon/hwmon0/energy1_input": "100",
    "class/hwmon/hwmon0/energy2_label": "Esocket0",
    "class/hwmon/hwmon0/energy2_input": "5000000",
    "class/hwmon/hwmon0/energy3_label": "Esocket1",
    "class/hwmon/hwmon0/energy3_input": "7000000",
}
BOARD = {
    "class/hwmon/hwmon0/name": "BAT0",
    "class/hwmon/hwmon0/power1_input": "1",
    "class/hwmon/hwmon0/device/type": "Battery",
    "class/hwmon/hwmon1/name": "ina226",
    "class/hwmon/hwmon1/power1_input": "6500000",
    "class/power_supply/BAT0/type": "Battery",
    "class/power_supply/BAT0/status": "Charging",
    "class/power_supply/BAT0/power_now": "1",
}

Measure = Callable[..., Usage]


@pytest.fixture
def measure(tmp_path: Path) -> Measure:
    """Makes a tree, lets two seconds pass in which ``then`` is what changes, and returns what was measured."""

    def run(tree: dict[str, str], then: dict[str, str] | None = None) -> Usage:
        def write(files: dict[str, str]) -> None:
            for name, content in files.items():
                path = tmp_path / "sys" / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(content + "\n")

        now = 100.0
        write(tree)
        meter = Meter(find_sensors(tmp_path), interval_s=60, clock=lambda: now)
        meter.start()
        now = 101.0
        meter.sample()
        write(then or {})
        now = 102.0
        return meter.stop()

    return run


def test_a_laptop_counts_package_and_memory_but_nothing_twice(measure: Measure) -> None:
    later = {"class/powercap/intel-rapl:0/energy_uj": "21000000", "class/powercap/intel-rapl:0:2/energy_uj": "3200000"}
    usage = measure(LAPTOP_INTEL, later)
    assert (usage.seconds, usage.joules, usage.energy_source) == (2, 23, "RAPL: package-0, dram")
    assert usage.per_joule(46) == 2
    assert (usage.celsius, usage.throttling) == (61, [])


def test_throttle_counters_that_rise_are_reported(measure: Measure) -> None:
    later = {"devices/system/cpu/cpu0/thermal_throttle/package_throttle_count": "41"}
    assert measure(LAPTOP_INTEL, later).throttling == ["thermal throttling"]


def test_a_counter_that_starts_again(measure: Measure) -> None:
    usage = measure(DESKTOP_AMD, {"class/powercap/intel-rapl:0/energy_uj": "1000000000"})
    assert usage.joules == pytest.approx((65532610987 - 65000000000 + 1000000000) / 1e6)
    assert (usage.celsius, usage.throttling) == (54.25, [])


def test_a_pi_has_heat_and_its_firmware_but_no_energy(measure: Measure) -> None:
    usage = measure(PI_5, {"class/thermal/thermal_zone0/temp": "84000"})
    assert (usage.joules, usage.energy_source, usage.per_joule(5)) == (None, "not available: no sensor", None)
    assert (usage.celsius, usage.throttling) == (84, [])  # throttled once since it was started, but not now


def test_a_hot_and_badly_powered_pi(measure: Measure) -> None:
    firmware = "devices/platform/soc@107c000000/soc@107c000000:firmware/get_throttled"
    later = {firmware: "5000d", "class/hwmon/hwmon3/in0_lcrit_alarm": "1"}
    assert measure(PI_5, later).throttling == ["under-voltage", "throttled", "soft temperature limit"]
    later = {firmware: "nonsense", "class/hwmon/hwmon3/in0_lcrit_alarm": "1"}
    assert measure(PI_5, later).throttling == ["under-voltage"]


def test_a_phone_on_its_battery(measure: Measure) -> None:
    usage = measure(PHONE, {"class/power_supply/battery/current_now": "-1250000"})
    assert usage.joules == pytest.approx(3 * 1 + 5 * 1)  # 0.75 and 1.25 A at 4 V, a second each
    assert usage.energy_source == "battery: the whole device"
    assert usage.celsius == 52.1  # a sensor at absolute zero is not one
    assert usage.throttling == ["thermal throttling", "policy4 capped to 2.40 of 3.10 GHz"]


def test_counters_of_sockets_are_not_added_to_those_of_their_cores(measure: Measure) -> None:
    usage = measure(
        SERVER, {"class/hwmon/hwmon0/energy1_input": "90000", "class/hwmon/hwmon0/energy3_input": "9000000"}
    )
    assert (usage.joules, usage.energy_source) == (2, "hwmon: amd_energy")


def test_a_power_sensor_is_summed_up_and_a_charging_battery_ignored(measure: Measure) -> None:
    usage = measure(BOARD)
    assert (usage.joules, usage.energy_source) == (13, "hwmon: ina226")
    assert (usage.celsius, usage.throttling) == (None, None)


def test_counters_that_only_root_may_read_are_named(measure: Measure) -> None:
    files = {k: v for k, v in DESKTOP_AMD.items() if not k.endswith("energy_uj")}  # unreadable and absent look alike
    assert measure(files).energy_source == "not available: RAPL is readable by root alone"


def test_a_machine_without_sensors(measure: Measure) -> None:
    assert measure({}) == Usage(2, None, "not available: no sensor", None, None)


def test_several_stretches_add_up() -> None:
    first, second = Usage(1, 10, "RAPL", 50, []), Usage(2, 20, "RAPL", 60, ["thermal throttling"])
    assert add_usage([first, second, first]) == Usage(4, 40, "RAPL", 60, ["thermal throttling"])
    nothing = Usage(1, None, "not available: no sensor", None, None)
    assert add_usage([nothing, nothing]) == Usage(2, None, "not available: no sensor", None, None)


def test_sampling_goes_on_by_itself(tmp_path: Path) -> None:
    zone = tmp_path / "sys/class/thermal/thermal_zone0"
    zone.mkdir(parents=True)
    (zone / "type").write_text("cpu-thermal\n")
    (zone / "temp").write_text("40000\n")
    meter = Meter(find_sensors(tmp_path), interval_s=0.001)
    meter.start()
    (zone / "temp").write_text("70000\n")
    deadline = monotonic() + 30
    while meter._hottest != 70000 and monotonic() < deadline:
        sleep(0.001)
    (zone / "temp").write_text("50000\n")
    assert meter.stop().celsius == 70
