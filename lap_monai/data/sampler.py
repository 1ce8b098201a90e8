"""Batches that mix frames with masks and frames with image-level labels only."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch.distributed
from torch.utils.data import Sampler

from lap_monai.checks import UserError

__all__ = ["MixedBatchSampler", "positive_groups"]


def positive_groups(class_vectors: np.ndarray, phases: np.ndarray) -> np.ndarray:
    """Number the frames by class vector and phase: two frames are positives of each other where the numbers are equal.

    Section 2.1 of Zhang et al. 2024. Frames whose class vector is unknown (NaN) are each a group of their own.

    Args:
        class_vectors: `(N, C)`, multi-hot, as `FrameDataset.class_vectors`.
        phases: `(N,)`, as `FrameDataset.phases`.

    Returns:
        `(N,)` int64 in the range of 0 to N - 1.
    """
    known = np.column_stack([class_vectors, phases])  # NaN differs from itself, so unknown vectors stay apart
    return np.unique(known, axis=0, return_inverse=True, equal_nan=False)[1].reshape(-1).astype(np.int64)


class MixedBatchSampler(Sampler[list[tuple[int, int]]]):
    """Batches of a fixed number of masked and of label-only frames, **masked ones first**, as `(index, seed)` pairs.

    Section 3.2 of Zhang et al. 2024: 200 images a step, 60 of them with masks. The label-only frames are those outside
    the budget: the masked ones are in every batch anyway, and all images of a batch are contrasted and classified.

    An epoch goes once through the label-only frames (through the masked ones if there are no others), in a new order
    each time; the last batch is filled up. Masked frames come in reshuffled rounds, as many as the epoch needs. A frame
    is not twice in a batch unless there are fewer frames than the batch asks for; then it comes with another seed,
    hence another augmentation.

    Batches are a function of `seed` and the epoch. Iterating moves on to the next epoch; `set_epoch` goes to any, for a
    resumed run. With several processes each gets its own slice of the same global batch, all with equally many masked
    frames.

    Examples:
        >>> sampler = MixedBatchSampler([0, 1], [2, 3, 4, 5], masked_per_batch=1, label_only_per_batch=2)
        >>> [len(batch) for batch in sampler]
        [3, 3]
    """

    def __init__(
        self,
        masked: Sequence[int],
        label_only: Sequence[int],
        masked_per_batch: int,
        label_only_per_batch: int,
        groups: Sequence[int] | np.ndarray | None = None,
        ensure_positives: bool = False,
        steps_per_epoch: int | None = None,
        seed: int = 0,
        rank: int | None = None,
        world_size: int | None = None,
    ) -> None:
        """Set up the two groups.

        Args:
            masked: indices of frames whose masks are used (`FrameDataset.masked`).
            label_only: indices of the frames without (`FrameDataset.label_only`).
            masked_per_batch: of the global batch, over all processes.
            label_only_per_batch: likewise; 0 for supervised training.
            groups: by frame index, equal numbers for positives of each other (`positive_groups`).
            ensure_positives: draw a frame together with another of its `groups`, where it has any. A few frames then
                come twice an epoch, as partners, and as few not at all. A label-only frame whose only fellows are
                masked is left to chance.
            steps_per_epoch: overrides the number of batches; an epoch may then be longer or shorter than the data.
            seed: of the order and of the seeds in the pairs.
            rank: of this process; None asks `torch.distributed`.
            world_size: number of processes; None asks `torch.distributed`.

        Raises:
            UserError: if a group is empty though frames are asked of it, the groups overlap, the numbers do not divide
                by the number of processes, or positives are wanted without `groups`.
        """
        self.masked, self.label_only = list(masked), list(label_only)
        self.masked_per_batch, self.label_only_per_batch = masked_per_batch, label_only_per_batch
        self.rank, self.world_size = _process(rank, world_size)
        self.seed, self.epoch = seed, 0
        self._check()
        self._groups = self._partners(groups, ensure_positives)
        pool, per_batch = (
            (self.label_only, label_only_per_batch) if label_only_per_batch else (self.masked, masked_per_batch)
        )
        self._steps = -(-len(pool) // per_batch) if steps_per_epoch is None else steps_per_epoch
        if self._steps < 1:
            raise UserError(
                f"steps_per_epoch={steps_per_epoch}: give at least 1, or None for one pass through the data."
            )

    def _check(self) -> None:
        wanted = {"masked": self.masked_per_batch, "label_only": self.label_only_per_batch}
        for name, count in wanted.items():
            if count < 0:
                raise UserError(f"{name}_per_batch={count}: give 0 or more.")
            if count % self.world_size:
                raise UserError(
                    f"{name}_per_batch={count} does not divide by {self.world_size} processes; give a multiple of it."
                )
            if count and not getattr(self, name):
                raise UserError(
                    f"{name}_per_batch={count} but there are no {name} frames; set it to 0, or change budget or split."
                )
        if not any(wanted.values()):
            raise UserError("a batch of no frames: give masked_per_batch or label_only_per_batch.")
        if both := set(self.masked) & set(self.label_only):
            raise UserError(f"frame {min(both)} is both masked and label-only; a frame belongs to one group.")

    def _partners(self, groups: Sequence[int] | np.ndarray | None, ensure_positives: bool) -> np.ndarray:
        """Return the group of each frame, where nobody is anybody's partner unless positives are wanted."""
        last = max(self.masked + self.label_only)
        if not ensure_positives:
            return np.arange(last + 1)
        if groups is None:
            raise UserError("ensure_positives needs groups; give positive_groups(class_vectors, phases).")
        if len(groups) <= last:
            raise UserError(f"groups has {len(groups)} entries, but there is a frame {last}; give one per frame.")
        return np.asarray(groups)

    def __len__(self) -> int:
        """Steps of an epoch."""
        return self._steps

    def set_epoch(self, epoch: int) -> None:
        """Make the next iteration the one of `epoch`."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        """Go through the current epoch and move on to the next."""
        # Within a generator, so with the first batch: a loader with workers asks for two iterators and uses the second.
        epoch, self.epoch = self.epoch, self.epoch + 1
        yield from self._batches(np.random.default_rng([self.seed, epoch]))

    def _batches(self, rng: np.random.Generator) -> Iterator[list[tuple[int, int]]]:
        sizes = Counter(self._groups[self.masked + self.label_only].tolist())
        pools = [
            (_Pool(frames, self._groups, sizes, rng), count)
            for frames, count in ((self.masked, self.masked_per_batch), (self.label_only, self.label_only_per_batch))
            if count
        ]
        for _ in range(self._steps):
            present: Counter[int] = Counter()
            batch: list[tuple[int, int]] = []
            for pool, count in pools:
                frames = pool.draw(count, present)
                # Seeds are drawn for the global batch, so that a sample does not depend on the number of processes.
                pairs = list(zip(frames, rng.integers(2**32, size=count).tolist(), strict=True))
                share = count // self.world_size
                batch += pairs[self.rank * share : (self.rank + 1) * share]
            yield batch


class _Pool:
    """Frames drawn in reshuffled rounds, each together with a partner of its group where it has one."""

    def __init__(
        self, frames: Sequence[int], groups: np.ndarray, sizes: Mapping[int, int], rng: np.random.Generator
    ) -> None:
        self._frames = list(frames)
        self._group = {frame: int(groups[frame]) for frame in frames}
        self._sizes = sizes  # frames of each group, those of the other pool included
        self._members: dict[int, list[int]] = defaultdict(list)
        for frame, group in self._group.items():
            self._members[group].append(frame)
        self._rng = rng
        # What is still to come this round, in order. Dicts, because frames leave from anywhere.
        self._due: dict[int, None] = {}
        self._due_of: dict[int, dict[int, None]] = {group: {} for group in self._members}

    def draw(self, count: int, present: Counter[int]) -> list[int]:
        """Draw `count` frames for a batch whose groups so far are `present`, and count theirs in."""
        drawn: list[int] = []
        taken: set[int] = set()  # differs from `drawn` once a small pool starts over within a batch

        def take(frame: int) -> None:
            drawn.append(frame)
            taken.add(frame)
            present[self._group[frame]] += 1
            self._due.pop(frame, None)
            self._due_of[self._group[frame]].pop(frame, None)

        for group in [group for group, n in present.items() if n == 1 and group in self._members]:
            if len(drawn) < count:  # company for a frame that the other pool drew alone
                take(self._fellows(group, taken)[0])
        while len(drawn) < count:
            if len(taken) == len(self._frames):
                taken.clear()
            for frame in self._next(count - len(drawn), present, taken):
                take(frame)
        return drawn

    def _next(self, slots: int, present: Counter[int], taken: set[int]) -> list[int]:
        """Choose one or two frames, such that none is alone of its group in the batch if that can be helped."""
        frame = self._first_due(taken)
        group = self._group[frame]
        if present[group] or self._sizes[group] == 1:
            return [frame]
        if slots == 1:
            return [self._accompanied(present, taken, otherwise=frame)]
        return [frame, *self._fellows(group, {*taken, frame})[:1]]

    def _first_due(self, taken: set[int]) -> int:
        while True:
            for frame in self._due:
                if frame not in taken:
                    return frame
            for frame in self._rng.permutation(
                self._frames
            ).tolist():  # behind those of the last round, if any are left
                self._due.setdefault(frame)
                self._due_of[self._group[frame]].setdefault(frame)

    def _fellows(self, group: int, taken: set[int]) -> list[int]:
        """Return the frames of a group that are not yet in the batch: those due first, then the others, shuffled."""
        due = [frame for frame in self._due_of[group] if frame not in taken]
        others = [frame for frame in self._members[group] if frame not in taken and frame not in self._due_of[group]]
        return due + self._rng.permutation(others).tolist()

    def _accompanied(self, present: Counter[int], taken: set[int], otherwise: int) -> int:
        """Return a frame for the last place of a batch: one with company there, or one that never has any."""
        for frame in self._due:
            if frame not in taken and (present[self._group[frame]] or self._sizes[self._group[frame]] == 1):
                return frame
        for group in present:
            if group in self._members and (fellows := self._fellows(group, taken)):
                return fellows[0]
        return otherwise


def _process(rank: int | None, world_size: int | None) -> tuple[int, int]:
    running = torch.distributed.is_available() and torch.distributed.is_initialized()
    rank = rank if rank is not None else (torch.distributed.get_rank() if running else 0)
    world_size = world_size if world_size is not None else (torch.distributed.get_world_size() if running else 1)
    if not 0 <= rank < world_size:
        raise UserError(f"rank {rank} of {world_size} processes; give 0 to {world_size - 1}.")
    return rank, world_size
