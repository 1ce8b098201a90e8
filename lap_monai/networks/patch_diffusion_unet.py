"""A diffusion U-Net that reads an image in patches and predicts the clean image: a generator for a CPU."""

from __future__ import annotations

from typing import Any

from monai.networks.nets.diffusion_model_unet import DiffusionModelUNet
from monai.networks.schedulers import Scheduler
from torch import Tensor
from torch.nn import functional as F

from lap_monai.checks import UserError


class PatchDiffusionUNet(DiffusionModelUNet):
    """MONAI's `DiffusionModelUNet` on patches of the frame, its output the clean image, told as a velocity.

    A velocity (or noise) holds the noise of every pixel, which a network that works on patches cannot pass through its
    few channels; the clean image lies on a manifold of far fewer dimensions and fits through (Li and He 2025, "Back to
    basics: let denoising generative models denoise"). So the U-Net predicts the clean image `x`, and what this module
    returns is the velocity that follows from it, `v = (alpha x_t - x) / sigma`: the mean squared error of `v` is that
    of `x` weighed by `1 / sigma²`, and samplers and schedulers use the network as any other of `v_prediction`.

    The state dict is the U-Net's own.

    Args:
        scheduler: MONAI scheduler of the training, with `prediction_type="v_prediction"`.
        patch: edge of a patch in pixels; the frame's edges are multiples of it. 1 reads pixels.
        min_sigma: noise below it counts as this much in the formula above, which bounds the weight of nearly clean
            images; the less noise, the more of the sampler's clean image is then its input itself.
        in_channels, out_channels: of the frame, not of its patches.
        options: of `DiffusionModelUNet`.

    Raises:
        UserError: if the scheduler's `prediction_type` is another.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        patch: int = 4,
        min_sigma: float = 0.2,
        in_channels: int = 3,
        out_channels: int = 3,
        **options: Any,
    ) -> None:
        super().__init__(in_channels=in_channels * patch**2, out_channels=out_channels * patch**2, **options)
        if scheduler.prediction_type != "v_prediction":
            raise UserError(
                f"PatchDiffusionUNet gives velocities; prediction_type is {str(scheduler.prediction_type)!r}: "
                "set 'v_prediction'."
            )
        self.patch, self.min_sigma = patch, min_sigma
        self.alphas_cumprod: Tensor
        self.register_buffer("alphas_cumprod", scheduler.alphas_cumprod.detach().clone().float(), persistent=False)

    def forward(
        self,
        x: Tensor,
        timesteps: Tensor,
        context: Tensor | None = None,
        class_labels: Tensor | None = None,
        down_block_additional_residuals: tuple[Tensor] | None = None,
        mid_block_additional_residual: Tensor | None = None,
    ) -> Tensor:
        """Return the velocity `(B, C, H, W)` at noisy frames `x` `(B, C, H, W)` and training time steps `(B,)`.

        The other arguments are those of `DiffusionModelUNet`.
        """
        patches = F.pixel_unshuffle(x, self.patch)
        conditions = (context, class_labels, down_block_additional_residuals, mid_block_additional_residual)
        clean = F.pixel_shuffle(super().forward(patches, timesteps, *conditions), self.patch)
        power = self.alphas_cumprod[timesteps.to(self.alphas_cumprod.device)][:, None, None, None]
        return (power.sqrt() * x - clean) / (1 - power).sqrt().clamp(min=self.min_sigma)
