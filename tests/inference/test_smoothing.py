import numpy as np
import torch
from skimage.filters import gaussian

from lap_monai.inference import Smoother


def scene(shift=0, seed=0, size=(96, 128)):
    """A textured picture `(3, h, w)` and logits `(2, h, w)` of a disc, both moved to the right by `shift` pixels."""
    texture = gaussian(np.random.default_rng(seed).random((size[0], size[1] + 64)), 3)
    texture = (texture - texture.min()) / np.ptp(texture)
    view = texture[:, 32 - shift : 32 - shift + size[1]].astype(np.float32)
    ys, xs = np.mgrid[: size[0], : size[1]]
    disc = (ys - 48) ** 2 + (xs - 60 - shift) ** 2 < 25**2
    logits = torch.from_numpy(np.stack([~disc, disc]).astype(np.float32)) * 6 - 3
    return torch.from_numpy(view).expand(3, -1, -1), logits


def noisy(logits, seed):
    generator = torch.Generator().manual_seed(seed)
    return logits + 4 * torch.randn(logits.shape, generator=generator)


def errors(logits, truth):
    return (logits.argmax(0) != truth.argmax(0)).float().mean().item()


def test_a_still_scene_flickers_less_and_is_nearer_the_truth():
    smoother = Smoother(0.7)
    frames = [scene() for _ in range(8)]
    raw = [noisy(logits, seed) for seed, (_, logits) in enumerate(frames)]
    smoothed = [smoother(pixels, logits) for (pixels, _), logits in zip(frames, raw, strict=True)]
    before, after = smoother.flicker
    assert after < before / 2
    assert errors(smoothed[-1], frames[-1][1]) < errors(raw[-1], frames[-1][1]) / 2


def test_a_moving_scene_is_followed():
    smoother = Smoother(0.7)
    for step in range(6):
        pixels, truth = scene(shift=4 * step)
        smoothed = smoother(pixels, truth)
    follows = errors(smoothed, truth)
    stays = errors(sum(0.7 ** (5 - step) * scene(shift=4 * step)[1] for step in range(6)), truth)
    assert follows < stays / 2


def test_a_cut_is_not_averaged_over():
    smoother = Smoother(0.9)
    bright, first = scene()
    smoother(bright, first)
    pixels, second = torch.zeros_like(bright), -first
    np.testing.assert_allclose(smoother(pixels, second).softmax(0), second.softmax(0), atol=0.05)


def test_no_weight_changes_nothing_and_measures():
    smoother = Smoother(0.0)
    for seed in range(3):
        pixels, logits = scene()
        out = smoother(pixels, noisy(logits, seed))
        torch.testing.assert_close(out.softmax(0), noisy(logits, seed).softmax(0), atol=1e-5, rtol=1e-4)
    before, after = smoother.flicker
    assert before > 0
    assert abs(before - after) < 0.02


def test_after_a_reset_nothing_is_known():
    smoother = Smoother(0.9)
    pixels, logits = scene()
    smoother(pixels, logits)
    smoother.reset()
    torch.testing.assert_close(smoother(pixels, -logits).softmax(0), (-logits).softmax(0), atol=1e-5, rtol=1e-4)
    assert smoother.flicker is None
