"""A trained diffusion network as a function from seeds to frames."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from monai.networks.schedulers import Scheduler
from numpy.typing import NDArray
from torch import Tensor, nn

from lap_monai.checks import UserError, require_choice
from lap_monai.replay.samplers import Denoiser, ImageNoise, ddim, ddpm, dpm_solver, sde_dpm_solver
from lap_monai.replay.schedules import NoiseSchedule

__all__ = ["SAMPLERS", "FrameGenerator", "check_frame_size", "weights_sha256"]

#: name → denoiser, source of noise, schedule and steps → images.
SAMPLERS: dict[str, Callable[[Denoiser, ImageNoise, NoiseSchedule, int], Tensor]] = {
    "ddpm": lambda denoise, draw, schedule, steps: ddpm(denoise, draw(), schedule, steps, draw),
    "ddim": lambda denoise, draw, schedule, steps: ddim(denoise, draw(), schedule, steps),
    "dpm_solver": lambda denoise, draw, schedule, steps: dpm_solver(denoise, draw(), schedule, steps),
    "sde_dpm_solver": lambda denoise, draw, schedule, steps: sde_dpm_solver(denoise, draw(), schedule, steps, draw),
}


class FrameGenerator:
    """Draw frames from seeds, each frame from its own.

    The network always sees batches of `batch_size` images, filled up where fewer are asked for: sums inside it may be
    taken in another order for another batch size, which moves a pixel by a grey level now and then. With the same
    batch size a seed gives the same bytes whatever the company; `batch_size` is therefore part of a set's record.

    Args:
        network: `(x_t, timesteps)` → prediction, as MONAI's `DiffusionModelUNet`; it is put into evaluation mode.
        scheduler: MONAI scheduler of its training; the schedule and what the network predicts are taken from it.
        frame_size: `(H, W)`.
        sampler: a name of `SAMPLERS`.
        steps: evaluations of the network.
        threshold: see `Denoiser`.
        batch_size: frames drawn at once.
        device: where the network is.
        learned_from: fingerprint of the frames that the network learned from (`fingerprint`), for the record.

    Raises:
        UserError: for an unknown sampler or threshold, or an impossible number of steps.
    """

    def __init__(
        self,
        network: nn.Module,
        scheduler: Scheduler,
        frame_size: Sequence[int],
        sampler: str = "dpm_solver",
        steps: int = 20,
        threshold: str = "static",
        batch_size: int = 32,
        device: torch.device | str = "cpu",
        learned_from: str | None = None,
    ) -> None:
        self.network, self.device = network, torch.device(device)
        self.frame_size = (int(frame_size[0]), int(frame_size[1]))
        self.sampler, self.steps = require_choice(sampler, SAMPLERS, "sampler"), steps
        self.schedule = NoiseSchedule.of(scheduler)
        self.schedule.times(steps)
        self.denoise = Denoiser(network, self.schedule, str(scheduler.prediction_type), threshold)
        if batch_size < 1:
            raise UserError(f"batch_size={batch_size}: give at least 1.")
        self.batch_size = batch_size
        self.learned_from = learned_from

    @torch.no_grad()
    def draw(self, seeds: Sequence[int]) -> NDArray[np.uint8]:
        """Return the frames of these seeds, `(N, H, W, 3)` uint8 RGB."""
        self.network.eval()
        drawn = [self._draw(seeds[start : start + self.batch_size]) for start in range(0, len(seeds), self.batch_size)]
        return np.concatenate(drawn) if drawn else np.empty((0, *self.frame_size, 3), np.uint8)

    def _draw(self, seeds: Sequence[int]) -> NDArray[np.uint8]:
        filled = [*seeds, *[seeds[-1]] * (self.batch_size - len(seeds))]
        noise = ImageNoise(filled, (3, *self.frame_size), self.device)
        images = SAMPLERS[self.sampler](self.denoise, noise, self.schedule, self.steps)
        if not bool(images.isfinite().all()):
            raise UserError("The generator draws NaN; its weights are broken: train anew, or give another checkpoint.")
        grey = ((images + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
        return grey.permute(0, 2, 3, 1).cpu().numpy()[: len(seeds)]

    def origin(self) -> dict[str, Any]:
        """Return what a set's manifest says about its generator."""
        return {
            "sha256": weights_sha256(self.network),
            "frame_size": list(self.frame_size),
            "prediction_type": self.denoise.prediction_type,
            "schedule_sha256": hashlib.sha256(np.array(self.schedule.cumulative_alphas).tobytes()).hexdigest(),
            "timesteps": len(self.schedule),
            **({} if self.learned_from is None else {"frames": self.learned_from}),
        }

    def method(self) -> dict[str, Any]:
        """Return what a set's manifest says about its sampler."""
        return {
            "name": self.sampler,
            "steps": self.steps,
            "threshold": self.denoise.threshold,
            "batch_size": self.batch_size,
        }


def weights_sha256(network: nn.Module) -> str:
    """Return a hash of a network's weights and their names, the same in whatever file they lie."""
    digest = hashlib.sha256()
    for name, value in sorted(network.state_dict().items()):
        digest.update(f"{name} {tuple(value.shape)} {value.dtype}\n".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def check_frame_size(frame_size: Sequence[int], levels: int, patch: int = 1) -> None:
    """Check that a U-Net of so many levels, on patches of so many pixels, can halve the frame and double it again.

    Raises:
        UserError: naming the nearest sizes that it can.
    """
    unit = patch * 2 ** (levels - 1)
    if any(edge < unit or edge % unit for edge in frame_size):
        near = [max(unit, round(edge / unit) * unit) for edge in frame_size]
        raise UserError(
            f"frame_size {list(frame_size)}: a network of {levels} levels on patches of {patch} needs multiples of "
            f"{unit}: {near}."
        )
