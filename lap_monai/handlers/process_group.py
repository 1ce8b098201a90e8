"""The orderly end of a run of several processes."""

from __future__ import annotations

import time

import torch.distributed as dist

# Longer than a loaded machine keeps a ready thread waiting, shorter than anybody notices at the end of a training.
_SETTLE_SECONDS = 0.5


def leave_process_group(settle: float = _SETTLE_SECONDS) -> None:
    """Wait for all ranks, let the workers of the process group come to rest, and destroy the group.

    `destroy_process_group` alone does not end gloo's worker threads while anything still holds the group, and
    `DistributedDataParallel` does. A worker that lets go of its last tensor while the interpreter shuts down needs the
    interpreter's lock, cannot get it, and aborts the process ("terminate called without an active exception"): a rank
    that has finished its work then counts as failed. It happens on machines with more to do than cores.

    Does nothing where no group was initialised.

    Args:
        settle: seconds to sleep, without the interpreter's lock, between the last collective and the end of the group.
    """
    if not dist.is_initialized():
        return
    dist.barrier()
    time.sleep(settle)
    dist.destroy_process_group()
