"""Noise schedules as samplers see them, and one that ends in pure noise."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from monai.networks.schedulers import Scheduler
from monai.networks.schedulers.scheduler import NoiseSchedules
from torch import Tensor

from lap_monai.checks import UserError

__all__ = ["NoiseSchedule", "zero_terminal_snr"]


@NoiseSchedules.add_def("zero_terminal_snr", "Any other schedule, stretched until its last step is pure noise")
def zero_terminal_snr(
    num_train_timesteps: int, base: str = "scaled_linear_beta", **base_args: Any
) -> tuple[Tensor, Tensor, Tensor]:
    """Shift and scale the signal of a schedule so that its last step holds none (Lin et al. 2024, algorithm 1).

    Sampling starts from pure noise. A network that never saw any, because the last training step still held some
    signal, draws images of one medium brightness. Named as `schedule` of any MONAI scheduler; `base` and its arguments
    go with it: `DDPMScheduler(1000, "zero_terminal_snr", base="linear_beta", prediction_type="v_prediction")`.

    Returns:
        betas, alphas and their cumulative product, each `(num_train_timesteps,)`; the last product is 0.
    """
    schedule = NoiseSchedules[base](num_train_timesteps, **base_args)
    betas = schedule[0] if isinstance(schedule, tuple) else schedule
    signal = torch.cumprod(1 - betas.double(), 0).sqrt()
    signal = (signal - signal[-1]) * signal[0] / (signal[0] - signal[-1])
    cumulative = signal.square()
    alphas = torch.cat([cumulative[:1], cumulative[1:] / cumulative[:-1]])
    return (1 - alphas).float(), alphas.float(), cumulative.float()


@dataclass(frozen=True)
class NoiseSchedule:
    """How much of an image and how much noise is left at each training time step: `x_t = alpha_t x_0 + sigma_t e`.

    Time `None` stands for the clean image, behind step 0.

    Args:
        cumulative_alphas: `alpha_t ** 2` for t = 0 … T - 1, falling; `alpha ** 2 + sigma ** 2 = 1`.
    """

    cumulative_alphas: tuple[float, ...]

    @classmethod
    def of(cls, scheduler: Scheduler) -> NoiseSchedule:
        """Return the schedule of a MONAI scheduler."""
        return cls(tuple(scheduler.alphas_cumprod.double().tolist()))

    def __len__(self) -> int:
        """Number of training time steps T."""
        return len(self.cumulative_alphas)

    def alpha(self, time: int | None) -> float:
        """Return the share of the image."""
        return 1.0 if time is None else math.sqrt(self.cumulative_alphas[time])

    def sigma(self, time: int | None) -> float:
        """Return the standard deviation of the noise."""
        return 0.0 if time is None else math.sqrt(1 - self.cumulative_alphas[time])

    def log_snr(self, time: int | None) -> float:
        """Return `log(alpha / sigma)`, the lambda of the DPM-Solver papers: minus infinity for pure noise."""
        alpha, sigma = self.alpha(time), self.sigma(time)
        if sigma == 0:
            return math.inf
        return math.log(alpha / sigma) if alpha > 0 else -math.inf

    def times(self, steps: int) -> list[int]:
        """Return the times at which a sampler of so many steps asks the network: falling, evenly spaced, from T - 1.

        The last step goes from the last of them to the clean image, as long as the others ("trailing", Lin et al. 2024,
        table 2). Asking at time 0 too, as MONAI's `set_timesteps` does, would waste an evaluation on a clean image.

        Raises:
            UserError: if `steps` is not in 1 … T.
        """
        if not 1 <= steps <= len(self):
            raise UserError(f"steps={steps}: give 1 to {len(self)}, the time steps the generator was trained with.")
        return (len(self) - 1 - np.floor(np.arange(steps) * (len(self) / steps))).astype(int).tolist()
