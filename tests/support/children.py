"""Hostile input in a child process: it may run or be refused by an error of ours; nothing else is allowed."""

from __future__ import annotations

import os
import resource
import signal
import traceback
from collections.abc import Callable
from pathlib import Path

from edgeslm.errors import EdgeslmError

SANITIZED = bool(os.environ.get("EDGESLM_SANITIZED"))
CPU_SECONDS = 20 if SANITIZED else 3  # the promise is one second; the rest is for slow machines
RAN, REFUSED, FAILED = 0, 17, 18


def in_child(use: Callable[[], object], log: Path, memory: int = 4 << 30, cpu_seconds: int = CPU_SECONDS) -> int:
    """Exit status of a forked child that calls ``use``; negative for a signal. ``log`` gets any other error's trace.

    Args:
        memory: address space beyond what this process has mapped already, in bytes.
        cpu_seconds: of processor time.
    """
    limit = _mapped() + memory
    pid = os.fork()
    if pid == 0:
        status = FAILED
        try:
            resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds + 1))
            if not SANITIZED:
                resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
            signal.alarm(120)  # a hang uses no processor time
            use()
            status = RAN
        except EdgeslmError:
            status = REFUSED
        except BaseException:
            log.write_text(traceback.format_exc())
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _mapped() -> int:
    """Bytes of address space of this process: its libraries, above all."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
