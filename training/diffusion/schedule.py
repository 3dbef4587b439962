"""Noise schedule of the video model: how much signal is left at a step, what the network predicts, and back.

Linear in sqrt(beta) (latent diffusion), shifted so that the last step holds no signal (zero terminal SNR, arXiv 2305.08891),
v-prediction (arXiv 2202.00512) and DynamiCrafter's dynamic rescale, which shrinks the clean latent at noisy steps.
Everything is computed in float64; `buffers()` gives the float32 tensors that public checkpoints store.
"""

from dataclasses import dataclass
from enum import StrEnum

import torch
from torch import Tensor


class Parameterization(StrEnum):
    """What the network predicts."""

    V = "v"
    EPS = "eps"


@dataclass(frozen=True, eq=False, slots=True)
class Schedule:
    """A noise schedule. t is [b] int64 in [0, num_steps); samples are [b, ...] of any rank.

    Coefficients are float32, so results are float32 even for half-precision samples.
    """

    parameterization: Parameterization
    betas: Tensor                   # [num_steps] float64
    abar: Tensor                    # [num_steps] float64, the share of signal power that is left: cumulative product of 1 - beta
    scales: Tensor | None           # [turning_step + num_steps] float64, factors of the dynamic rescale; None when it is off

    @property
    def num_steps(self) -> int:
        return len(self.betas)

    def scale_at(self, t: Tensor) -> Tensor:
        """Returns the factor of the clean latent at each t, [same shape] float64; ones without dynamic rescale."""
        if self.scales is None:
            return torch.ones(t.shape, dtype=torch.float64, device=t.device)
        return self.scales.to(t.device)[t]

    def scale(self, z0: Tensor, t: Tensor) -> Tensor:
        """Returns the clean latent as it is diffused: multiplied by the dynamic rescale, or as it was without one."""
        return z0 if self.scales is None else z0 * _like(self.scale_at(t), z0)

    def add_noise(self, z0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """Diffuses (scaled) clean latents to step t: sqrt(abar) z0 + sqrt(1 - abar) noise. DDPM (arXiv 2006.11239) eq. 4."""
        signal, spread = self._signal_and_spread(t, z0)
        return signal * z0 + spread * noise

    def v_target(self, z0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """Returns v = sqrt(abar) noise - sqrt(1 - abar) z0 of (scaled) clean latents."""
        signal, spread = self._signal_and_spread(t, z0)
        return signal * noise - spread * z0

    def target(self, z0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """Returns what the network is to predict for (scaled) clean latents: v or the noise."""
        return self.v_target(z0, noise, t) if self.parameterization is Parameterization.V else noise.float()

    def x0_from_v(self, x_t: Tensor, v: Tensor, t: Tensor) -> Tensor:
        """Returns the (scaled) clean latents that x_t and v imply: sqrt(abar) x_t - sqrt(1 - abar) v."""
        signal, spread = self._signal_and_spread(t, x_t)
        return signal * x_t - spread * v

    def eps_from_v(self, x_t: Tensor, v: Tensor, t: Tensor) -> Tensor:
        """Returns the noise that x_t and v imply: sqrt(abar) v + sqrt(1 - abar) x_t."""
        signal, spread = self._signal_and_spread(t, x_t)
        return signal * v + spread * x_t

    def x0_from(self, prediction: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """Returns the (scaled) clean latents that a prediction implies. Predicted noise at abar = 0 implies none: infinite."""
        if self.parameterization is Parameterization.V:
            return self.x0_from_v(x_t, prediction, t)
        signal, spread = self._signal_and_spread(t, x_t)
        return (x_t - spread * prediction) / signal

    def eps_from(self, prediction: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """Returns the noise that a prediction implies."""
        return self.eps_from_v(x_t, prediction, t) if self.parameterization is Parameterization.V else prediction.float()

    def buffers(self) -> dict[str, Tensor]:
        """Returns the float32 tensors that a public checkpoint stores, under its names.

        Twelve of length num_steps, and `scale_arr` with dynamic rescale on. In v mode the two reciprocal ones are stored as
        zeros, as 1 / abar is infinite at the last step.
        """
        abar, ones = self.abar, torch.ones(1, dtype=torch.float64)
        previous = torch.cat([ones, abar[:-1]])
        variance = self.betas * (1 - previous) / (1 - abar)
        reciprocal = torch.zeros_like(abar) if self.parameterization is Parameterization.V else 1 / abar
        reciprocal_less_one = reciprocal if self.parameterization is Parameterization.V else reciprocal - 1
        stored = {
            "betas": self.betas,
            "alphas_cumprod": abar,
            "alphas_cumprod_prev": previous,
            "sqrt_alphas_cumprod": abar.sqrt(),
            "sqrt_one_minus_alphas_cumprod": (1 - abar).sqrt(),
            "log_one_minus_alphas_cumprod": (1 - abar).log(),
            "sqrt_recip_alphas_cumprod": reciprocal.sqrt(),
            "sqrt_recipm1_alphas_cumprod": reciprocal_less_one.sqrt(),
            "posterior_variance": variance,
            "posterior_log_variance_clipped": variance.clamp(min=1e-20).log(),
            "posterior_mean_coef1": self.betas * previous.sqrt() / (1 - abar),
            "posterior_mean_coef2": (1 - previous) * (1 - self.betas).sqrt() / (1 - abar),
        }
        if self.scales is not None:
            stored["scale_arr"] = self.scales
        return {name: values.float() for name, values in stored.items()}

    def _signal_and_spread(self, t: Tensor, sample: Tensor) -> tuple[Tensor, Tensor]:
        """sqrt(abar) and sqrt(1 - abar) at t, shaped to multiply `sample`."""
        abar = self.abar.to(t.device)[t]
        return _like(abar.sqrt(), sample), _like((1 - abar).sqrt(), sample)


def make_schedule(*, timesteps: int = 1000, linear_start: float = 0.00085, linear_end: float = 0.012,
                  zero_terminal_snr: bool = True, parameterization: str = "v", dynamic_rescale: bool = True,
                  base_scale: float = 0.7, turning_step: int = 400) -> Schedule:
    """Returns the schedule of the given settings; the defaults are ToonCrafter's at 512 x 320 pixels.

    `base_scale` (0.3 in the public 1024 model) and `turning_step` matter only with `dynamic_rescale`.
    """
    betas = linear_betas(timesteps, linear_start, linear_end)
    if zero_terminal_snr:
        betas = without_terminal_signal(betas)
    scales = None
    if dynamic_rescale:
        falling = torch.linspace(1.0, base_scale, turning_step, dtype=torch.float64)
        # As many constant entries as steps, of which the last turning_step are never read: checkpoints store it so.
        scales = torch.cat([falling, torch.full((timesteps,), base_scale, dtype=torch.float64)])
    return Schedule(Parameterization(parameterization), betas, torch.cumprod(1 - betas, dim=0), scales)


def linear_betas(timesteps: int, start: float, end: float) -> Tensor:
    """Returns [timesteps] float64 noise variances whose square roots are equally spaced, the first `start`, the last `end`."""
    return torch.linspace(start ** 0.5, end ** 0.5, timesteps, dtype=torch.float64).square()


def without_terminal_signal(betas: Tensor) -> Tensor:
    """Returns betas whose sqrt(abar) is shifted and stretched to end at 0 and start where it did. arXiv 2305.08891 alg. 1."""
    signal = torch.cumprod(1 - betas, dim=0).sqrt()
    first, last = signal[0], signal[-1]
    abar = ((signal - last) * first / (first - last)).square()
    return 1 - torch.cat([abar[:1], abar[1:] / abar[:-1]])


def _like(coefficients: Tensor, sample: Tensor) -> Tensor:
    """[b] -> [b, 1, ...] float32, to multiply a sample of any rank."""
    return coefficients.float().reshape(-1, *[1] * (sample.ndim - 1))
