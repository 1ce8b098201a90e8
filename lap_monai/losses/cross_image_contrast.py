"""Contrast of pixels and regions of one class across images."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from lap_monai.keys import IGNORE_INDEX
from lap_monai.losses.class_memory import RememberedClasses
from lap_monai.losses.contrast import attraction_loss, unit_vectors
from lap_monai.losses.precision import full_precision


class CrossImageContrastLoss(nn.Module):
    """Pull pixels and regions of a class towards those of the same class in *other* images, away from other classes.

    Our reading of Zhao et al. 2025, row A7 of `docs/incremental_methods.md`, with the sampling of Wang et al. 2021
    (section 3.2 and 3.3): up to `anchors` pixels, shared equally among the classes of the batch, half of them
    mispredicted where there are as many; and the mean of every class in every image, its region. Each is an anchor, and
    sees all others and the memory. Same class, other image: positive. Same class, same image: not looked at. Other
    class: negative. The background takes no part, since in partly labelled frames nobody knows what it is.

    The loss of an anchor is averaged over its positives (`attraction_loss`), then over the anchors that have one. In a
    distributed training every rank contrasts its own images, with the memory of all.

    Args:
        temperature: tau, more than 0.
        anchors: pixels that are drawn per batch; 0 for regions alone, the prototypes of a class in its images.
    """

    def __init__(self, temperature: float = 0.1, anchors: int = 1024) -> None:
        super().__init__()
        if not temperature > 0 or anchors < 0:
            raise ValueError(
                f"CrossImageContrastLoss: expected a temperature > 0 and anchors >= 0, got {temperature}, {anchors}."
            )
        self.temperature = temperature
        self.anchors = anchors

    def forward(
        self,
        embeddings: Tensor,
        label: Tensor,
        logits: Tensor | None = None,
        memory: RememberedClasses | None = None,
    ) -> Tensor:
        """Return the loss, a scalar; zero and connected to the graph if no anchor has a positive.

        Args:
            embeddings: `(B, D, h, w)`.
            label: channel numbers `(B, 1, H, W)`, 0 and 255 for pixels that take no part. H and W are multiples of h
                and w; each embedding stands for the pixel in the middle of its cell.
            logits: the network's, `(B, C, H, W)`, that tell which pixels are mispredicted; None draws at random.
            memory: features of earlier images; None while there are none.
        """
        with torch.autocast(embeddings.device.type, enabled=False):  # the products of embeddings stay in float32
            pixels = labelled_pixels(embeddings, label)
            wrong = None
            if logits is not None:
                predicted = cell_centres(logits.argmax(dim=1, keepdim=True), embeddings)[pixels.cells]
                wrong = predicted != pixels.classes
            chosen = _draw(pixels.classes, self.anchors, wrong)
            regions = region_means(pixels)
            features = torch.cat([pixels.features[chosen], regions.features])
            classes = torch.cat([pixels.classes[chosen], regions.classes])
            images = torch.cat([pixels.images[chosen], regions.images])
            return self._contrast(unit_vectors(features), classes, images, memory) + embeddings[:0].sum()

    def _contrast(self, anchors: Tensor, classes: Tensor, images: Tensor, memory: RememberedClasses | None) -> Tensor:
        others, other_classes, other_images = anchors, classes, images
        if memory is not None:
            others = torch.cat([anchors, memory.features.to(anchors)])
            other_classes = torch.cat([classes, memory.classes.to(classes.device)])
            other_images = torch.cat([images, images.new_full((len(memory.classes),), -1)])
        same_class = classes[:, None] == other_classes
        same_image = images[:, None] == other_images
        similarity = anchors @ others.T / self.temperature
        # Half the lowest number, not -inf, whose gradient is NaN where nothing is left to look at.
        similarity = similarity.masked_fill(same_class & same_image, torch.finfo(similarity.dtype).min / 2)
        weights = (same_class & ~same_image).to(similarity.dtype)
        loss = attraction_loss(similarity, weights).sum()
        return loss / (weights.sum(dim=1) > 0).sum().clamp_min(1)


class LabelledPixels(NamedTuple):
    """The N embeddings of a batch that carry a class other than background."""

    features: Tensor  #: `(N, D)`
    classes: Tensor  #: channel numbers `(N,)`, int64
    images: Tensor  #: their image's position in the batch, `(N,)`
    cells: Tensor  #: bool `(B, h, w)`, where they were


def cell_centres(maps: Tensor, embeddings: Tensor) -> Tensor:
    """Return, of maps `(B, 1, H, W)`, the value `(B, h, w)` in the middle of each cell of embeddings `(B, D, h, w)`."""
    (height, width), (rows, columns) = maps.shape[2:], embeddings.shape[2:]
    if height % rows or width % columns:
        raise ValueError(
            f"expected maps of a multiple of the embeddings' {rows} x {columns} pixels, got {height} x {width}."
        )
    down, right = height // rows, width // columns
    return maps[:, 0, down // 2 :: down, right // 2 :: right]


def labelled_pixels(embeddings: Tensor, label: Tensor) -> LabelledPixels:
    """Return the embeddings `(B, D, h, w)` whose label `(B, 1, H, W)` is a class, neither 0 nor 255; float32."""
    ids = cell_centres(label, embeddings).long()
    cells = (ids != 0) & (ids != IGNORE_INDEX)
    features = full_precision(embeddings).permute(0, 2, 3, 1)[cells]
    return LabelledPixels(features, ids[cells], cells.nonzero()[:, 0], cells)


def region_means(pixels: LabelledPixels) -> LabelledPixels:
    """Return the mean embedding of each class in each image, as R pixels of their own."""
    keys = torch.stack([pixels.images, pixels.classes], dim=1)
    regions, member = keys.unique(dim=0, return_inverse=True)
    sums = pixels.features.new_zeros(len(regions), pixels.features.shape[1]).index_add(0, member, pixels.features)
    count = torch.bincount(member, minlength=len(regions)).clamp_min(1)
    return LabelledPixels(sums / count[:, None], regions[:, 1], regions[:, 0], pixels.cells)


def memorable_features(embeddings: Tensor, label: Tensor, per_image: int = 10) -> RememberedClasses:
    """Return what a `ClassMemory` keeps of a batch: each region, and up to `per_image` of its pixels, drawn at random.

    Args:
        embeddings: `(B, D, h, w)`.
        label: as for `CrossImageContrastLoss`.
        per_image: pixels of each class in each image.
    """
    pixels = labelled_pixels(embeddings.detach(), label)
    regions = region_means(pixels)
    groups = pixels.images * (IGNORE_INDEX + 1) + pixels.classes
    chosen = _first_of_each(groups, torch.randperm(len(groups), device=groups.device), per_image)
    features = torch.cat([pixels.features[chosen], regions.features])
    return RememberedClasses(unit_vectors(features), torch.cat([pixels.classes[chosen], regions.classes]))


def _draw(classes: Tensor, count: int, wrong: Tensor | None) -> Tensor:
    """Return the positions of up to `count` pixels: as many of each class, half of them wrong if there are as many."""
    present = classes.unique()
    if not len(present) or not count:
        return present[:0]
    share = max(count // len(present), 1)
    order = torch.randperm(len(classes), device=classes.device)
    if wrong is None:
        return _first_of_each(classes, order, share)
    chosen = _first_of_each(classes * 2 + wrong, order, share)  # at most `share` right and `share` wrong ones a class
    parts = []
    for channel in present.tolist():
        mine = chosen[classes[chosen] == channel]
        bad, good = mine[wrong[mine]], mine[~wrong[mine]]
        many = max(share // 2, share - len(good))  # whichever is short, the other fills up
        parts += [bad[:many], good[: share - min(len(bad), many)]]
    return torch.cat(parts)


def _first_of_each(groups: Tensor, order: Tensor, count: int) -> Tensor:
    """Return, in the given order, the first `count` positions of each group."""
    arranged = order[groups[order].argsort(stable=True)]
    sizes = groups.unique(return_counts=True)[1]
    start = (sizes.cumsum(0) - sizes).repeat_interleave(sizes)
    rank = torch.arange(len(groups), device=groups.device) - start
    return arranged[rank < count]
