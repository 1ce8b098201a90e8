"""Contrast over the processes of a distributed training: the gradients of one process with the whole batch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from lap_monai.losses import (
    ClassContrastiveLoss,
    FeatureMemory,
    MultiLabelLoss,
    NTXentLoss,
    SegmentationLoss,
    contrast_features,
    share_without_positive,
)

#: Which images each of two ranks holds, of 8.
SHARES = {
    "equal": (slice(0, 4), slice(4, 8)),
    "unequal": (slice(0, 3), slice(3, 8)),
    "empty": (slice(0, 0), slice(0, 8)),
}


class TwoScales(nn.Module):
    """A network with two scales of embeddings."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(5, 4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        first = self.first(x)
        return first, self.second(first.tanh())


def make_network() -> nn.Module:
    torch.manual_seed(3)
    return TwoScales().double()


def make_batch() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(4)
    images = torch.randn(8, 5, generator=generator, dtype=torch.float64)
    # Positives within a rank, across ranks, and an image without any.
    classes = torch.tensor([[1, 0], [1, 0], [0, 1], [1, 1], [1, 0], [0, 1], [0, 1], [0, 0]]).float()
    return images, classes, torch.tensor([0, 0, 1, 1, 0, 1, -1, 0])


def make_memory() -> FeatureMemory:
    """Return a memory of an earlier batch, alike on every rank."""
    images, classes, phase = make_batch()
    memory = FeatureMemory(6)
    memory.remember(contrast_features(make_network()(images.flip(1))), classes, phase)
    return memory


def two_views(network: nn.Module, images: Tensor) -> Tensor:
    """Contrast images with a second view of them."""
    both = network(torch.cat([images, images.flip(1)]))
    count = len(images)
    return NTXentLoss()([z[:count] for z in both], [z[count:] for z in both])


def gradients(network: nn.Module) -> Tensor:
    return torch.cat([parameter.grad.flatten() for parameter in network.parameters()])


def further_losses(classes: Tensor, phase: Tensor) -> dict[str, Callable[[nn.Module, Tensor], Tensor]]:
    """Return losses of a network and images with these labels, by name."""
    memory = make_memory().recall()
    return {
        "views": two_views,
        "memory": lambda network, images: ClassContrastiveLoss()(network(images), classes, phase, memory),
    }


def work(rank: int, folder: str) -> None:
    """Run on one of two ranks and leave the values and the averaged gradients in `folder`."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    images, classes, phase = make_batch()
    results = {}
    for name, shares in SHARES.items():
        mine = shares[rank]
        for reduction in ("mean", "sum"):
            network = DistributedDataParallel(make_network())
            value = ClassContrastiveLoss(reduction=reduction)(network(images[mine]), classes[mine], phase[mine])
            value.backward()
            results[name, reduction] = (value.item(), gradients(network))
        for kind, loss in further_losses(classes[mine], phase[mine]).items():
            network = DistributedDataParallel(make_network())
            value = loss(network, images[mine])
            value.backward()
            results[name, kind] = (value.item(), gradients(network))
        results[name, "share"] = share_without_positive(classes[mine], phase[mine]).item()
    mine = SHARES["equal"][rank]
    alone = ClassContrastiveLoss(gather=False)(make_network()(images[mine]), classes[mine], phase[mine])
    results["alone"] = alone.item()
    torch.save(results, Path(folder) / f"rank{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def ranks(tmp_path_factory) -> list[dict]:
    """What each of two processes left."""
    folder = tmp_path_factory.mktemp("ranks")
    mp.spawn(work, args=(str(folder),), nprocs=2)
    return [torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.mark.slow
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("share", list(SHARES))
def test_two_processes_give_the_gradients_of_one(ranks, share, reduction):
    images, classes, phase = make_batch()
    network = make_network()
    value = ClassContrastiveLoss(reduction=reduction)(network(images), classes, phase)
    value.backward()
    values = [rank[share, reduction][0] for rank in ranks]
    assert sum(values) / 2 == pytest.approx(value.item())
    for rank in ranks:
        assert torch.allclose(rank[share, reduction][1], gradients(network), rtol=1e-9, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["views", "memory"])
@pytest.mark.parametrize("share", list(SHARES))
def test_two_processes_contrast_views_and_memories_as_one(ranks, share, kind):
    images, classes, phase = make_batch()
    network = make_network()
    value = further_losses(classes, phase)[kind](network, images)
    value.backward()
    assert sum(rank[share, kind][0] for rank in ranks) / 2 == pytest.approx(value.item())
    for rank in ranks:
        assert torch.allclose(rank[share, kind][1], gradients(network), rtol=1e-9, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("share", list(SHARES))
def test_the_share_without_positive_is_that_of_the_whole_batch(ranks, share):
    _, classes, phase = make_batch()
    for rank in ranks:
        assert rank[share, "share"] == pytest.approx(share_without_positive(classes, phase).item())


@pytest.mark.slow
def test_without_gathering_each_rank_is_on_its_own(ranks):
    images, classes, phase = make_batch()
    for rank, mine in zip(ranks, SHARES["equal"], strict=True):
        expected = ClassContrastiveLoss()(make_network()(images[mine]), classes[mine], phase[mine])
        assert rank["alone"] == pytest.approx(expected.item())


def test_the_other_losses_are_means_over_images():
    """So that halves of a batch, in two processes or accumulated, average to the loss of the whole."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(4, 3, 6, 5, generator=generator)
    label = torch.randint(0, 3, (4, 1, 6, 5), generator=generator)
    label[0], label[1, :, :3] = 255, 255
    scores, classes = torch.randn(4, 3, generator=generator), torch.ones(4, 3)
    for loss, first, second in ((SegmentationLoss(), logits, label), (MultiLabelLoss(), scores, classes)):
        halves = [loss(first[half], second[half]).item() for half in (slice(0, 2), slice(2, 4))]
        assert sum(halves) / 2 == pytest.approx(loss(first, second).item())
