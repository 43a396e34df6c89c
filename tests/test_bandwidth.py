from __future__ import annotations

from pathlib import Path

import pytest

from edgeslm import bandwidth


def cache(cpus: Path, cpu: int, index: int, level: int, size: str, shared: str) -> None:
    folder = cpus / f"cpu{cpu}" / "cache" / f"index{index}"
    folder.mkdir(parents=True)
    for name, text in (("level", str(level)), ("size", size), ("shared_cpu_list", shared)):
        (folder / name).write_text(text + "\n")


def test_caches_of_the_last_level_add_up_each_counted_once(tmp_path: Path) -> None:
    assert bandwidth.cache_bytes(tmp_path) == 0
    for cpu, shared in enumerate(("0-1", "0-1", "2-3", "2-3")):
        cache(tmp_path, cpu, 0, 1, "32K", str(cpu))
        cache(tmp_path, cpu, 3, 3, "16M", shared)
    assert bandwidth.cache_bytes(tmp_path) == 2 * (16 << 20)
    (tmp_path / "cpu0" / "cache" / "index3" / "size").write_text("much")
    (tmp_path / "cpu1" / "cache" / "index3" / "size").unlink()
    assert bandwidth.cache_bytes(tmp_path) == 16 << 20


def test_the_buffer_exceeds_the_caches_within_reason() -> None:
    assert [bandwidth.buffer_bytes(caches) >> 20 for caches in (0, 20 << 20, 1 << 30)] == [64, 80, 512]


def test_memory_is_read_at_a_speed() -> None:
    assert 1e8 < bandwidth.read_bandwidth(1) < 1e13


def test_without_native_kernels_numpy_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bandwidth, "has_native_kernels", lambda: False)
    assert 1e8 < bandwidth.read_bandwidth(2) < 1e13
