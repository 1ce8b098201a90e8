"""A U-Net on patches gives the velocity that belongs to the clean image it predicts."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from monai.networks.nets.diffusion_model_unet import DiffusionModelUNet
from monai.networks.schedulers import DDPMScheduler
from torch.nn import functional as F

from lap_monai.checks import UserError
from lap_monai.networks import PatchDiffusionUNet
from lap_monai.replay import Denoiser, NoiseSchedule

OPTIONS: dict[str, Any] = {
    "spatial_dims": 2,
    "channels": [8, 16],
    "attention_levels": [False, True],
    "num_res_blocks": 1,
    "num_head_channels": 8,
    "norm_num_groups": 4,
}


def scheduler(prediction_type: str = "v_prediction") -> DDPMScheduler:
    return DDPMScheduler(num_train_timesteps=100, schedule="cosine", prediction_type=prediction_type)


def random_network(patch: int, min_sigma: float = 0.2) -> PatchDiffusionUNet:
    """With weights that the last layer, which starts at zero, passes on."""
    torch.manual_seed(0)
    network = PatchDiffusionUNet(scheduler(), patch, min_sigma, **OPTIONS)
    for parameter in network.out.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return network.eval()


@pytest.mark.parametrize("patch", [1, 2, 4])
def test_the_sampler_sees_the_clean_image_of_the_plain_network(patch: int) -> None:
    network = random_network(patch)
    plain = DiffusionModelUNet(in_channels=3 * patch**2, out_channels=3 * patch**2, **OPTIONS)
    plain.load_state_dict(network.state_dict())  # its own names and nothing else
    noisy = torch.randn(2, 3, 16, 24)
    denoise = Denoiser(network, NoiseSchedule.of(scheduler()), "v_prediction", threshold="none")
    for time in (30, 60, 99):  # all noisier than min_sigma
        patches = F.pixel_unshuffle(noisy, patch)
        expected = F.pixel_shuffle(plain.eval()(patches, timesteps=torch.tensor([time, time])), patch)
        torch.testing.assert_close(denoise(noisy, time), expected, rtol=1e-4, atol=1e-5)


def test_a_network_that_knows_the_image_gives_the_velocity_that_is_trained_for(monkeypatch: pytest.MonkeyPatch) -> None:
    clean, noise = torch.rand(3, 3, 8, 8) * 2 - 1, torch.randn(3, 3, 8, 8)
    times = torch.tensor([40, 70, 99])
    network, schedule = random_network(patch=2), scheduler()
    monkeypatch.setattr(DiffusionModelUNet, "forward", lambda *_: F.pixel_unshuffle(clean, 2))
    velocity = network(schedule.add_noise(clean, noise, times), timesteps=times)
    torch.testing.assert_close(velocity, schedule.get_velocity(clean, noise, times), rtol=1e-3, atol=1e-4)


def test_less_noise_than_min_sigma_leaves_the_input_nearly_as_it_is() -> None:
    noisy = torch.randn(1, 3, 8, 8)
    denoise = Denoiser(random_network(2, min_sigma=0.5), NoiseSchedule.of(scheduler()), "v_prediction", "none")
    assert (denoise(noisy, 0) - noisy).abs().mean() < 0.1 < (denoise(noisy, 99) - noisy).abs().mean()


def test_all_weights_learn() -> None:
    network = random_network(patch=2)
    network(torch.randn(2, 3, 8, 8), timesteps=torch.tensor([10, 90])).square().mean().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_another_prediction_is_refused() -> None:
    with pytest.raises(UserError, match="v_prediction"):
        PatchDiffusionUNet(scheduler("epsilon"), **OPTIONS)
