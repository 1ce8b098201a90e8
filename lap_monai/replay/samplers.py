"""From noise to images: how a trained diffusion network is asked, step by step.

A sampler is a function of a denoiser, noise and a schedule. It knows no network and draws no random number itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import torch
from monai.networks.schedulers import Scheduler
from torch import Tensor, nn

from lap_monai.checks import UserError, require_choice
from lap_monai.replay.schedules import NoiseSchedule

__all__ = ["THRESHOLDS", "Denoiser", "ImageNoise", "check_target", "ddim", "ddpm", "dpm_solver", "sde_dpm_solver"]

#: `(x_t, t)` → the image that a network sees behind the noise, both `(B, C, H, W)`.
Denoise = Callable[[Tensor, int], Tensor]

_PREDICTIONS = ("epsilon", "v_prediction", "sample")

#: What is done to predicted images that leave [-1, 1].
THRESHOLDS = ("none", "static", "dynamic")

_QUANTILE = 0.995  # of dynamic thresholding, the value of Imagen


def check_target(scheduler: Scheduler) -> None:
    """Check that what a network is to predict can be learned to the end of its schedule.

    Args:
        scheduler: MONAI scheduler of the training.

    Raises:
        UserError: if the schedule ends in pure noise but the network is to predict noise: it would learn to copy what
            it is given, and from that alone no image begins.
    """
    _check_target(NoiseSchedule.of(scheduler), str(scheduler.prediction_type))


def _check_target(schedule: NoiseSchedule, prediction_type: str) -> None:
    if prediction_type == "epsilon" and schedule.alpha(len(schedule) - 1) == 0:
        raise UserError(
            "A schedule that ends in pure noise needs prediction_type 'v_prediction' or 'sample', not 'epsilon'."
        )


class Denoiser:
    """A diffusion network, whatever it was trained to predict, as a function from noisy to clean images.

    Args:
        network: `(x_t, timesteps)` → prediction, as MONAI's `DiffusionModelUNet`.
        schedule: that it was trained with.
        prediction_type: `"epsilon"`, `"v_prediction"` (Salimans and Ho 2022) or `"sample"`.
        threshold: `"static"` cuts predicted images at -1 and 1; `"dynamic"` scales an image down where its 99.5 %
            quantile exceeds 1 before it cuts (Saharia et al. 2022, section 2.3), which keeps contrast; `"none"`.

    Raises:
        UserError: if the schedule ends in pure noise but the network predicts noise: nothing could be learnt there.
    """

    def __init__(
        self, network: nn.Module, schedule: NoiseSchedule, prediction_type: str, threshold: str = "static"
    ) -> None:
        self.network, self.schedule = network, schedule
        self.prediction_type = require_choice(prediction_type, _PREDICTIONS, "prediction_type")
        self.threshold = require_choice(threshold, THRESHOLDS, "threshold")
        _check_target(schedule, prediction_type)

    def __call__(self, noisy: Tensor, time: int) -> Tensor:
        """Return the clean images `(B, C, H, W)` that the network sees in `noisy` at training time step `time`."""
        timesteps = torch.full((len(noisy),), time, dtype=torch.long, device=noisy.device)
        prediction = self.network(noisy, timesteps).float()
        alpha, sigma = self.schedule.alpha(time), self.schedule.sigma(time)
        if self.prediction_type == "epsilon":
            clean = (noisy - sigma * prediction) / alpha
        elif self.prediction_type == "v_prediction":
            clean = alpha * noisy - sigma * prediction
        else:
            clean = prediction
        return self._cut(clean)

    def _cut(self, clean: Tensor) -> Tensor:
        if self.threshold == "none":
            return clean
        if self.threshold == "static":
            return clean.clamp(-1, 1)
        limit = torch.quantile(clean.abs().flatten(1), _QUANTILE, dim=1).clamp(min=1)[:, None, None, None]
        return clean.clamp(-limit, limit) / limit


class ImageNoise:
    """Gaussian noise of which each image has its own stream: what image `i` gets does not depend on its company.

    Drawn on the CPU, whatever the device, since generators of different devices draw different numbers.

    Args:
        seeds: one per image.
        shape: `(C, H, W)`.
        device: where the noise goes.
    """

    def __init__(self, seeds: Sequence[int], shape: Sequence[int], device: torch.device | str = "cpu") -> None:
        self._generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        self._shape, self._device = tuple(shape), device

    def __call__(self) -> Tensor:
        """Return the next noise `(B, C, H, W)`."""
        return torch.stack([torch.randn(self._shape, generator=one) for one in self._generators]).to(self._device)


def ddim(
    denoise: Denoise,
    noise: Tensor,
    schedule: NoiseSchedule,
    steps: int,
    eta: float = 0.0,
    draw: Callable[[], Tensor] | None = None,
) -> Tensor:
    """Denoising diffusion implicit models (Song et al. 2021, eq. 12 and 16); one evaluation a step.

    Deviation: where thresholding changed the clean image, the noise direction is that between it and `x_t`, not the
    network's own, so that both stay one decomposition of `x_t`.

    Args:
        denoise: see `Denoiser`.
        noise: `(B, C, H, W)`, standard normal.
        schedule: of the training.
        steps: evaluations.
        eta: 0 is deterministic, 1 adds as much fresh noise as DDPM.
        draw: fresh noise like `noise`; needed where `eta` is not 0.

    Returns:
        Images like `noise`, about [-1, 1].
    """
    if eta and draw is None:
        raise ValueError("ddim: eta > 0 needs fresh noise; give draw.")
    x = noise
    for now, then in _steps(schedule, steps):
        clean = denoise(x, now)
        direction = (x - schedule.alpha(now) * clean) / schedule.sigma(now)
        fresh = eta * _posterior_deviation(schedule, now, then)
        x = schedule.alpha(then) * clean + math.sqrt(max(schedule.sigma(then) ** 2 - fresh**2, 0.0)) * direction
        if fresh and draw is not None:
            x = x + fresh * draw()
    return x


def ddpm(
    denoise: Denoise, noise: Tensor, schedule: NoiseSchedule, steps: int, draw: Callable[[], Tensor] | None = None
) -> Tensor:
    """Denoising diffusion probabilistic models (Ho et al. 2020, algorithm 2), with the posterior's variance.

    As `ddim` with `eta` 1, which it equals (Song et al. 2021, section 4.1); as many steps as the training had are the
    original, fewer are respaced.
    """
    return ddim(denoise, noise, schedule, steps, eta=1.0, draw=draw)


def dpm_solver(
    denoise: Denoise,
    noise: Tensor,
    schedule: NoiseSchedule,
    steps: int,
    draw: Callable[[], Tensor] | None = None,
) -> Tensor:
    """DPM-Solver++(2M) (Lu et al. 2022, algorithm 2): second order in the log-SNR, still one evaluation a step.

    Each step extrapolates the clean image from the last two predictions. The first step, which has one, and the last,
    which ends at infinite log-SNR, are of first order: DDIM's.

    Args and returns as `ddim`; with `draw` it is SDE-DPM-Solver++(2M) (ibid., for the reverse-time SDE), which adds
    fresh noise in every step as DDPM does, of which it is the second order.
    """
    x = noise
    last, last_width = noise, math.inf  # as if predicted infinitely far away: no extrapolation
    for now, then in _steps(schedule, steps):
        clean = denoise(x, now)
        width = schedule.log_snr(then) - schedule.log_snr(now)
        extrapolation = 0.0 if then is None or math.isinf(last_width) else width / (2 * last_width)
        expected = torch.lerp(clean, last, -extrapolation)
        # exp(-width) written as a ratio, which is finite at both ends of the schedule
        ratio = schedule.sigma(then) / schedule.sigma(now)
        if draw is None:
            x = ratio * x + (schedule.alpha(then) - schedule.alpha(now) * ratio) * expected
        else:
            kept = ratio**2 * schedule.alpha(now) / schedule.alpha(then)
            x = kept * x + (schedule.alpha(then) - schedule.alpha(now) * kept) * expected
            if then is not None:
                x = x + _posterior_deviation(schedule, now, then) * draw()
        last, last_width = clean, width
    return x


def sde_dpm_solver(
    denoise: Denoise, noise: Tensor, schedule: NoiseSchedule, steps: int, draw: Callable[[], Tensor] | None = None
) -> Tensor:
    """`dpm_solver` with fresh noise, which is needed: what an imperfect network errs in one step, later ones repair."""
    if draw is None:
        raise ValueError("sde_dpm_solver needs fresh noise; give draw.")
    return dpm_solver(denoise, noise, schedule, steps, draw)


def _steps(schedule: NoiseSchedule, steps: int) -> Iterator[tuple[int, int | None]]:
    """Pairs of times: where the network is asked, and where the step from there leads; None is the clean image."""
    times = schedule.times(steps)
    return zip(times, [*times[1:], None], strict=True)


def _posterior_deviation(schedule: NoiseSchedule, now: int, then: int | None) -> float:
    """Standard deviation of `x_then` given `x_now` and the clean image."""
    ratio = schedule.sigma(then) / schedule.sigma(now)
    return ratio * math.sqrt(max(1 - (schedule.alpha(now) / schedule.alpha(then)) ** 2, 0.0))
