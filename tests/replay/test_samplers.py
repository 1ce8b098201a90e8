"""Samplers against closed forms, MONAI's schedulers and themselves."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from monai.networks.schedulers import DDIMScheduler, DDPMScheduler
from torch import Tensor, nn

from lap_monai.checks import UserError
from lap_monai.replay import Denoiser, ImageNoise, NoiseSchedule, ddim, ddpm, dpm_solver, sde_dpm_solver

MEAN, DEVIATION = 0.3, 0.4

#: A cosine schedule so fine that a time step is no step: what remains is the solver's own error.
FINE = NoiseSchedule(tuple(math.cos(math.pi / 2 * i / (2**15 + 1)) ** 2 for i in range(1, 2**15 + 1)))


class TimeDependent(nn.Module):
    """A network of one convolution that takes the time into account."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.convolution = nn.Conv2d(3, 3, 3, padding=1).double()

    def forward(self, x: Tensor, timesteps: Tensor) -> Tensor:
        return torch.tanh(self.convolution(x)) * (1 + timesteps[:, None, None, None] / 100)


def gaussian(schedule: NoiseSchedule) -> Callable[[Tensor, int], Tensor]:
    """The perfect denoiser of pixels that are normal with `MEAN` and `DEVIATION`: the conditional expectation."""

    def denoise(x: Tensor, time: int) -> Tensor:
        alpha, sigma = schedule.alpha(time), schedule.sigma(time)
        gain = alpha * DEVIATION**2 / (alpha**2 * DEVIATION**2 + sigma**2)
        return MEAN + gain * (x - alpha * MEAN)

    return denoise


def noise_of(count: int = 4, shape: tuple[int, ...] = (3, 5, 6)) -> Tensor:
    return torch.randn(count, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


# --- closed form -----------------------------------------------------------------------------------------------------


def carried(noise: Tensor, schedule: NoiseSchedule, time: int | None) -> Tensor:
    """Where the probability flow carries the first noise: as many deviations from the mean as it began with."""

    def moments(at: int | None) -> tuple[float, float]:
        return schedule.alpha(at) * MEAN, math.hypot(schedule.alpha(at) * DEVIATION, schedule.sigma(at))

    (first_mean, first_deviation), (mean, deviation) = moments(len(schedule) - 1), moments(time)
    return mean + deviation * (noise - first_mean) / first_deviation


def error(sampler: Callable[..., Tensor], schedule: NoiseSchedule, steps: int) -> tuple[float, float]:
    """Root mean square distance to the closed form where the network is asked last, and in the end."""
    asked = []

    def denoise(x: Tensor, time: int) -> Tensor:
        asked.append((x, time))
        return gaussian(schedule)(x, time)

    images = sampler(denoise, noise_of(), schedule, steps)
    last, end = (
        (x - carried(noise_of(), schedule, time)).square().mean().sqrt() for x, time in (asked[-1], (images, None))
    )
    return float(last), float(end)


@pytest.mark.parametrize(("sampler", "order"), [(ddim, 1), (dpm_solver, 2)])
def test_a_solver_converges_to_the_closed_form_at_its_order(sampler: Callable[..., Tensor], order: int) -> None:
    """Over a range of log-SNR in even steps, where the order of Lu et al. 2022 (theorem 3.2) holds."""
    even = NoiseSchedule(tuple(torch.sigmoid(2 * torch.linspace(3, -3, 2**15, dtype=torch.float64)).tolist()))
    errors = [error(sampler, even, steps)[0] for steps in (64, 128, 256, 512)]
    rates = [math.log2(coarse / fine) for coarse, fine in pairwise(errors)]
    assert rates == pytest.approx([order] * 3, abs=0.1)


@pytest.mark.parametrize("sampler", [ddim, dpm_solver])
def test_images_converge_to_the_closed_form(sampler: Callable[..., Tensor]) -> None:
    errors = [error(sampler, FINE, steps)[1] for steps in (16, 64, 256, 1024)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 1e-3


def test_the_second_order_solver_needs_a_fraction_of_the_steps() -> None:
    assert error(dpm_solver, FINE, 16)[1] < error(ddim, FINE, 128)[1]


def test_ancestral_sampling_of_a_gaussian_draws_from_it() -> None:
    schedule = NoiseSchedule.of(DDPMScheduler(300, "cosine"))
    draw = ImageNoise(range(12), (3, 32, 32))
    images = ddpm(gaussian(schedule), draw(), schedule, 300, draw)
    # 36,864 pixels: the standard errors are 0.002 and 0.0015; 300 steps are not infinitely many
    assert float(images.mean()) == pytest.approx(MEAN, abs=0.01)
    assert float(images.std()) == pytest.approx(DEVIATION, abs=0.013)


def test_ancestral_sampling_of_second_order_draws_from_a_gaussian_in_few_steps() -> None:
    schedule = NoiseSchedule.of(DDPMScheduler(1000, "cosine"))

    def drawn(sampler: Callable[..., Tensor]) -> Tensor:
        draw = ImageNoise(range(12), (3, 32, 32))
        return sampler(gaussian(schedule), draw(), schedule, 16, draw)

    first, second = drawn(ddpm), drawn(sde_dpm_solver)
    # standard errors as above
    assert float(second.mean()) == pytest.approx(MEAN, abs=0.01)
    assert abs(float(second.std()) - DEVIATION) < abs(float(first.std()) - DEVIATION) / 2


@pytest.mark.parametrize("sampler", [ddim, dpm_solver])
def test_one_step_returns_what_the_network_sees_in_noise(sampler: Callable[..., Tensor]) -> None:
    noise = noise_of()
    torch.testing.assert_close(
        sampler(gaussian(FINE), noise, FINE, 1), gaussian(FINE)(noise, len(FINE) - 1), rtol=0, atol=1e-12
    )


@pytest.mark.parametrize(("first_order", "second_order"), [(ddim, dpm_solver), (ddpm, sde_dpm_solver)])
def test_the_first_step_of_a_second_order_solver_is_of_first_order(
    first_order: Callable[..., Tensor], second_order: Callable[..., Tensor]
) -> None:
    asked: dict[str, list[Tensor]] = {first_order.__name__: [], second_order.__name__: []}
    for sampler, seen in zip((first_order, second_order), asked.values(), strict=True):

        def denoise(x: Tensor, time: int, seen: list[Tensor] = seen) -> Tensor:
            seen.append(x)
            return gaussian(FINE)(x, time)

        fresh = {"draw": ImageNoise(range(4), (3, 5, 6))} if first_order is ddpm else {}
        sampler(denoise, noise_of(), FINE, 5, **fresh)
    first, second = asked.values()
    torch.testing.assert_close(first[1], second[1], rtol=0, atol=1e-12)
    assert (first[2] - second[2]).abs().max() > 1e-3


# --- MONAI's schedulers ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("clip", [True, False])
def test_ddpm_is_monais(prediction: str, clip: bool) -> None:
    options = {"schedule": "scaled_linear_beta", "prediction_type": prediction, "clip_sample": clip}
    scheduler = DDPMScheduler(60, **options)
    network, schedule = TimeDependent(), NoiseSchedule.of(scheduler)
    generator = torch.Generator().manual_seed(3)
    start = noise_of(1)
    expected = start
    for time in range(59, -1, -1):
        with torch.no_grad():
            output = network(expected, torch.tensor([time]))
        expected, _ = scheduler.step(output, time, expected, generator=generator)
    generator.manual_seed(3)

    def draw() -> Tensor:
        return torch.randn(start.shape, dtype=start.dtype, generator=generator)

    denoise = _in_double(Denoiser(network, schedule, prediction, "static" if clip else "none"))
    torch.testing.assert_close(ddpm(denoise, start, schedule, 60, draw), expected, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("steps", [4, 12, 60])
def test_ddim_is_monais(prediction: str, steps: int) -> None:
    scheduler = DDIMScheduler(60, "scaled_linear_beta", prediction_type=prediction, clip_sample=False)
    network, schedule = TimeDependent(), NoiseSchedule.of(scheduler)
    scheduler.num_inference_steps = steps  # set_timesteps would space times by another distance than step assumes
    expected = start = noise_of()
    for time in schedule.times(steps):
        with torch.no_grad():
            output = network(expected, torch.full((len(start),), time))
        expected, _ = scheduler.step(output, time, expected)
    denoise = _in_double(Denoiser(network, schedule, prediction, "none"))
    torch.testing.assert_close(ddim(denoise, start, schedule, steps), expected, rtol=2e-4, atol=2e-5)


def _in_double(denoiser: Denoiser) -> Callable[[Tensor, int], Tensor]:
    """MONAI computes in the precision of what it is given, a `Denoiser` in single precision: the difference shows."""

    def denoise(x: Tensor, time: int) -> Tensor:
        with torch.no_grad():
            return denoiser(x, time).double()

    return denoise


# --- schedules -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("base", ["linear_beta", "scaled_linear_beta", "cosine"])
def test_zero_terminal_snr_ends_in_pure_noise_and_starts_where_it_did(base: str) -> None:
    before = DDPMScheduler(200, base)
    after = DDPMScheduler(200, "zero_terminal_snr", base=base, prediction_type="v_prediction")
    assert float(after.alphas_cumprod[-1]) == 0
    assert float(after.alphas_cumprod[0]) == pytest.approx(float(before.alphas_cumprod[0]), rel=1e-6)
    assert bool((after.alphas_cumprod[1:] < after.alphas_cumprod[:-1]).all())
    torch.testing.assert_close(after.alphas.cumprod(0), after.alphas_cumprod, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(after.betas, 1 - after.alphas)


@pytest.mark.parametrize("sampler", [ddim, dpm_solver])
@pytest.mark.parametrize("steps", [1, 2, 20, 200])
def test_samplers_start_at_pure_noise(sampler: Callable[..., Tensor], steps: int) -> None:
    schedule = NoiseSchedule.of(DDPMScheduler(200, "zero_terminal_snr", prediction_type="v_prediction"))
    images = sampler(gaussian(schedule), noise_of(), schedule, steps)
    assert bool(images.isfinite().all())
    if steps == 200:
        torch.testing.assert_close(images, MEAN + DEVIATION * noise_of(), rtol=0, atol=0.05)


def test_a_noise_predictor_cannot_use_a_schedule_that_ends_in_pure_noise() -> None:
    schedule = NoiseSchedule.of(DDPMScheduler(200, "zero_terminal_snr", prediction_type="v_prediction"))
    with pytest.raises(UserError, match="needs prediction_type 'v_prediction' or 'sample'"):
        Denoiser(TimeDependent(), schedule, "epsilon")


@pytest.mark.parametrize("steps", [1, 7, 10, 999, 1000])
def test_times_fall_evenly_from_the_noisiest(steps: int) -> None:
    times = NoiseSchedule.of(DDPMScheduler(1000, "cosine")).times(steps)
    widths = [now - then for now, then in zip(times, [*times[1:], -1], strict=True)]
    assert times[0] == 999
    assert len(times) == steps
    assert max(widths) - min(widths) <= 1
    assert min(widths) >= 1


@pytest.mark.parametrize("steps", [0, 1001, -1])
def test_impossible_numbers_of_steps_are_refused(steps: int) -> None:
    with pytest.raises(UserError, match=f"steps={steps}: give 1 to 1000"):
        NoiseSchedule.of(DDPMScheduler(1000, "cosine")).times(steps)


# --- thresholding and noise ------------------------------------------------------------------------------------------


def _constant(image: Tensor, threshold: str) -> Tensor:
    """What a denoiser makes of a network that always predicts `image`."""
    schedule = NoiseSchedule.of(DDPMScheduler(10, "cosine"))
    return Denoiser(lambda x, t: image, schedule, "sample", threshold)(torch.zeros_like(image), 5)


def test_thresholds_bring_images_into_range_each_by_itself() -> None:
    image = torch.stack([torch.linspace(-0.5, 0.5, 12), torch.linspace(-2, 2, 12)]).view(2, 3, 2, 2)
    assert torch.equal(_constant(image, "none"), image)
    assert torch.equal(_constant(image, "static"), image.clamp(-1, 1))
    dynamic = _constant(image, "dynamic")
    assert torch.equal(dynamic[0], image[0])
    limit = float(image[1].abs().quantile(0.995))
    torch.testing.assert_close(dynamic[1], image[1].clamp(-limit, limit) / limit)
    assert float(dynamic.abs().max()) <= 1


@pytest.mark.parametrize(
    ("arguments", "match"),
    [(("velocity",), "Unknown prediction_type 'velocity'"), (("epsilon", "dynamics"), "Did you mean 'dynamic'")],
)
def test_unknown_words_are_refused(arguments: tuple[str, ...], match: str) -> None:
    with pytest.raises(UserError, match=match):
        Denoiser(TimeDependent(), FINE, *arguments)


def test_noise_of_an_image_does_not_depend_on_its_company() -> None:
    together, alone, turned = (ImageNoise(seeds, (3, 4, 5)) for seeds in ([5, 6, 7], [6], [7, 6, 5]))
    for _ in range(3):
        a, b, c = together(), alone(), turned()
        assert torch.equal(a[1], b[0])
        assert torch.equal(a, c.flip(0))
        assert not torch.equal(a[0], a[1])


def test_fresh_noise_is_asked_for() -> None:
    with pytest.raises(ValueError, match="give draw"):
        ddim(gaussian(FINE), noise_of(), FINE, 3, eta=0.5)
    with pytest.raises(ValueError, match="give draw"):
        sde_dpm_solver(gaussian(FINE), noise_of(), FINE, 3)
