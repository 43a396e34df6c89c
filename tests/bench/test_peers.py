"""peers.py with our own rows alone, on a tiny model: the other runtimes are not installed for tests."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def test_rows_of_a_tiny_model(tiny_checkpoint: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    models = tmp_path / "models" / "qwen2.5-0.5b"
    models.mkdir(parents=True)
    for name, made in (("hf", tiny_checkpoint), ("int4-32", tiny_bundle), ("int4-128", tiny_bundle)):
        (models / name).symlink_to(made)
    sizes = ["-p", "8", "-n", "2", "--depth", "4,40", "--repeat", "1", "--threads", "1", "--kv-dtype", "int8"]
    command = [sys.executable, HERE / "peers.py", tmp_path, "--only", "edgeslm", "--bits", "4", *sizes, "--json"]
    environment = {**os.environ, "PYTHONPATH": str(HERE)}  # tests run without a script's own folder
    done = subprocess.run([*map(str, command)], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    [match] = json.loads(done.stdout)
    assert match["plan"]["kv_dtype"] == "int8"
    assert len(match["read_bandwidth"]) == 4  # of prefill, two depths, fresh processes
    for row in match["rows"]:
        assert row["contestant"]["runtime"] == "edgeslm"
        figures = [row["prefill"], *row["decode"].values(), row["first_token"]]
        assert len(figures) == 4 and all(len(f) == 1 and f[0] > 0 for f in figures)
        assert row["peak_rss_bytes"] > row["anon_bytes"] > 0 and row["weight_bytes"] > 0
