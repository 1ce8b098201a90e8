"""Distances between frames as pictures, blind to what a copy may hide behind: light, flips, small shifts and crops.

Two stages, since comparing every pair of frames under every alignment would be slow. First, thumbnails: windows of
every training frame (a grid of scales and places) against the middle of every query in four orientations, as matrix
products. Then the few best candidates, at a finer size: the query's middle, at several scales, slides over the
candidate, and the highest normalised cross-correlation counts.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from lap_monai.replay.frames import Frames, frame_batches, frame_size, require_same_size
from lap_monai.replay.nearest import Nearest

# Rec. 601 luma. A copy in other colours keeps its greys.
_LUMA = (0.299, 0.587, 0.114)

# Longest side of the fine pictures and side of the thumbnails, in pixels. Coarse enough for a thumbnail to bear half a
# step of the grid of windows, fine enough to tell patients apart.
_FINE, _THUMBNAIL = 64, 16

# Binomial, 3 x 3: fine detail that lies half a pixel beside itself would cost a copy its correlation.
_BLUR = (torch.tensor([1.0, 2.0, 1.0])[:, None] * torch.tensor([1.0, 2.0, 1.0]) / 16)[None, None]

# Share of the frame that is cut from each side of a query, and so the largest shift that is undone.
_MARGIN = 0.06
_MIDDLE = 1 - 2 * _MARGIN

# Scales of the windows: a copy may be a crop of at least 0.9 of a frame, blown up.
_COARSE_SCALES, _FINE_SCALES = (1.0, 0.95, 0.9), (1.0, 0.975, 0.95, 0.925, 0.9)
_PLACES = (0.0, 0.25, 0.5, 0.75, 1.0)  # of a window along each axis, as shares of the free way

_CANDIDATES = 8
_BATCH = 64

# Pictures with less contrast (standard deviation in grey levels) show nothing that could be a copy of anything.
_LEAST_CONTRAST = 1.0


class PixelSpace:
    """Nearest training frames by `1 - c`, c the highest correlation of grey pictures over all alignments searched.

    Searched are the four flips, shifts of up to 6 % of each side, and crops down to 90 % of the frame. A correlation
    does not change with brightness and contrast. The distance lies in [0, 2]: 0 is the same picture, 1 an unrelated
    one. A uniform picture, such as a black frame, is at distance 1 from everything: nobody can be recognised in it.

    Args:
        training: frames `(H, W, 3)` uint8 of one size, at least one.

    Raises:
        UserError: if there are no frames, or they are no RGB bytes.
    """

    def __init__(self, training: Frames) -> None:
        self.size = frame_size(training, "training frames")
        scale = _FINE / max(self.size)
        self._fine_size = (max(1, round(scale * self.size[0])), max(1, round(scale * self.size[1])))
        grey = self._grey(training)
        self._pictures = grey
        windows = [_thumbnails(grey, *place) for scale in _COARSE_SCALES for place in _windows(_MIDDLE * scale)]
        self._windows = torch.stack(windows)  # (W, M, T)

    def __len__(self) -> int:
        """Number of training frames."""
        return len(self._pictures)

    def nearest(self, frames: Frames) -> Nearest:
        """Return the nearest training frame of each of `frames`.

        Args:
            frames: N frames of the training frames' size.

        Raises:
            UserError: if they are of another size.
        """
        require_same_size(frames, self.size, "frames to be compared")
        parts = [self._nearest(grey) for grey in self._grey(frames).split(_BATCH)]
        return Nearest(*(torch.cat(part).numpy() for part in zip(*parts, strict=True)))

    def _nearest(self, grey: Tensor) -> tuple[Tensor, Tensor]:
        """Indices and distances, `(N,)` each, for grey pictures `(N, h, w)`."""
        flipped = torch.stack([grey, grey.flip(-1), grey.flip(-2), grey.flip(-1, -2)])  # (F, N, h, w)
        best, orientation = self._coarse(flipped).max(0)  # (N, M)
        chosen = best.topk(min(_CANDIDATES, len(self)), dim=1).indices  # (N, K)
        queries = flipped[orientation.gather(1, chosen), torch.arange(len(grey))[:, None]]
        found = correlation(queries.flatten(0, 1), self._pictures[chosen.flatten()]).view_as(chosen)
        highest, place = found.max(1, keepdim=True)
        return chosen.gather(1, place)[:, 0], 1 - highest[:, 0].double()

    def _grey(self, frames: Frames) -> Tensor:
        """Grey pictures `(N, h, w)`: means of the pixels under each fine one, a little blurred."""
        weights = torch.tensor(_LUMA).view(1, 3, 1, 1)
        parts = [(batch.float() * weights).sum(1, keepdim=True) for batch in frame_batches(frames, _BATCH)]
        small = torch.cat([functional.interpolate(part, self._fine_size, mode="area") for part in parts])
        return functional.conv2d(functional.pad(small, (1, 1, 1, 1), mode="replicate"), _BLUR)[:, 0]

    def _coarse(self, flipped: Tensor) -> Tensor:
        """Correlation `(F, N, M)` of the thumbnails of each query in each orientation with the best window."""
        middles = torch.stack([_thumbnails(grey, _MARGIN, _MARGIN, _MIDDLE) for grey in flipped])
        scores = torch.full((*middles.shape[:2], len(self)), -1.0)
        for window in self._windows:  # one by one: all at once would take windows times as much memory
            torch.maximum(scores, middles @ window.T, out=scores)
        return scores


def correlation(queries: Tensor, pictures: Tensor) -> Tensor:
    """Return the highest normalised cross-correlation of the middle of each query with any window of its picture.

    Args:
        queries: grey pictures `(N, h, w)`, whose middles are tried at several scales.
        pictures: `(N, h, w)`.

    Returns:
        `(N,)` in [-1, 1]; 0 where a query's middle or all windows of the picture are uniform.
    """
    top, left = (round(_MARGIN * side) for side in queries.shape[1:])
    middle = queries[:, None, top : queries.shape[1] - top, left : queries.shape[2] - left]
    best = torch.full((len(queries),), -1.0)
    for scale in _FINE_SCALES:
        size = [max(2, round(scale * side)) for side in middle.shape[2:]]
        template = functional.interpolate(middle, size, mode="bilinear", antialias=True)
        best = torch.maximum(best, _slide(template[:, 0], pictures).flatten(1).amax(1))
    return best.clamp(-1, 1)


def _slide(templates: Tensor, pictures: Tensor) -> Tensor:
    """Correlations `(N, dy, dx)` of templates `(N, th, tw)` with their pictures `(N, h, w)` at all places."""
    pictures = pictures - pictures.mean((1, 2), keepdim=True)  # the variances below lose fewer digits
    templates = templates - templates.mean((1, 2), keepdim=True)
    size = (templates.shape[1], templates.shape[2])
    product = functional.conv2d(pictures[None], templates[:, None] / templates[0].numel(), groups=len(pictures))[0]
    mean = functional.avg_pool2d(pictures, size, stride=1)
    variance = functional.avg_pool2d(pictures.square(), size, stride=1) - mean.square()
    spread = variance.clamp(min=0).sqrt() * templates.square().mean((1, 2), keepdim=True).sqrt()
    return torch.where(spread > _LEAST_CONTRAST**2, product / spread.clamp(min=_LEAST_CONTRAST**2), 0.0)


def _windows(side: float) -> list[tuple[float, float, float]]:
    """Top, left and side of windows on a grid, as shares of the frame."""
    free = 1 - side
    return [(y * free, x * free, side) for y in _PLACES for x in _PLACES]


def _thumbnails(grey: Tensor, top: float, left: float, side: float) -> Tensor:
    """Thumbnails `(N, T)` of a window of pictures `(N, h, w)`, of mean 0 and norm 1; all 0 where uniform."""
    height, width = grey.shape[1:]
    rows = slice(round(top * height), round((top + side) * height))
    columns = slice(round(left * width), round((left + side) * width))
    small = functional.interpolate(grey[:, None, rows, columns], (_THUMBNAIL, _THUMBNAIL), mode="area").flatten(1)
    centred = small - small.mean(1, keepdim=True)
    length = centred.norm(dim=1, keepdim=True)
    return torch.where(length > _LEAST_CONTRAST * _THUMBNAIL, centred / length.clamp(min=1e-6), 0.0)
