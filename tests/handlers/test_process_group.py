"""Leaving a process group: no rank is aborted by a worker thread that outlives it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch.distributed as dist

from lap_monai.handlers import leave_process_group

# A group that something still holds, and collectives still at work when the script ends: what a training with
# DistributedDataParallel leaves behind on a machine with more to do than cores.
SCRIPT = """
import ctypes, sys, torch, torch.distributed as dist
from lap_monai.handlers import leave_process_group
dist.init_process_group("gloo", init_method="file://" + sys.argv[1], rank=0, world_size=1)
ctypes.pythonapi.Py_IncRef(ctypes.py_object(dist.group.WORLD))
for _ in range(300):
    dist.all_reduce(torch.ones(1000), async_op=True)
leave_process_group()
assert not dist.is_initialized()
"""


@pytest.mark.slow
def test_a_process_whose_group_is_still_held_ends_well(tmp_path) -> None:
    words = [sys.executable, "-c", SCRIPT, str(tmp_path / "store")]
    done = subprocess.run(words, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]


def test_without_a_group_there_is_nothing_to_leave() -> None:
    leave_process_group()
    assert not dist.is_initialized()
