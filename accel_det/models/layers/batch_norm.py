"""Batch normalisation for training on several processes: statistics of all of them, or frozen ones.

Both classes keep the parameter and buffer names of `nn.BatchNorm2d`, so weights move freely between the three.
Letters: C channels, P processes.
"""

from typing import Any, Literal, Protocol

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F

BatchNormKind = Literal["frozen", "synchronized"]


class FrozenBatchNorm2d(nn.BatchNorm2d):
    """Always normalises by the stored statistics; neither they nor scale and shift are trained."""

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats)
        for parameter in self.parameters():
            parameter.requires_grad_(False)

    def forward(self, input: Tensor) -> Tensor:
        return F.batch_norm(
            input, self.running_mean, self.running_var, self.weight, self.bias, training=False, eps=self.eps
        )


class CrossProcessBatchNorm2d(nn.BatchNorm2d):
    """`nn.BatchNorm2d` of the joint batch of all processes, with its exact gradient, on any device and backend.

    Processes may hold different numbers of images, of different sizes. In eval mode, and on one process, it is
    `nn.BatchNorm2d`. Collective in train mode: every process must call forward, and backward, equally often.
    """

    def forward(self, input: Tensor) -> Tensor:
        if not self.training or not dist.is_available() or not dist.is_initialized() or dist.get_world_size() == 1:
            return super().forward(input)
        self._check_input_dim(input)
        mean, squares, count = _joint_statistics(input.detach())
        if self.running_mean is not None and self.running_var is not None:
            self._update_running(mean, squares / (count - 1).clamp(min=1))
        inverse_std = (squares / count + self.eps).rsqrt()
        normalized: Tensor = _JointNormalize.apply(input, mean, inverse_std, count)
        if not self.affine:
            return normalized.to(input.dtype)
        scaled = normalized * self.weight[None, :, None, None] + self.bias[None, :, None, None]
        return scaled.to(input.dtype)

    @torch.no_grad()
    def _update_running(self, mean: Tensor, unbiased_variance: Tensor) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        if self.momentum is None:
            share = 1.0 / self.num_batches_tracked.to(mean.dtype)
            self.running_mean += (mean - self.running_mean) * share
            self.running_var += (unbiased_variance - self.running_var) * share
        else:
            self.running_mean.lerp_(mean.to(self.running_mean.dtype), self.momentum)
            self.running_var.lerp_(unbiased_variance.to(self.running_var.dtype), self.momentum)


def _joint_statistics(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean (C,), sum of squared deviations from it (C,) and number of values per channel () over all processes.

    Collective: every process must call it.

    Each process sends its own mean and squared deviations: sums of raw squares would cancel in float32.
    Source: Chan, Golub, LeVeque, Updating Formulae for Computing Sample Variances, 1979, equation 2.1.
    """
    wide = x.double() if x.dtype == torch.float64 else x.float()
    count = wide.numel() // wide.shape[1]
    own_mean = wide.sum(dim=(0, 2, 3)) / max(count, 1)
    own_squares = (wide - own_mean[None, :, None, None]).square().sum(dim=(0, 2, 3))
    own = torch.cat((own_mean, own_squares, torch.full_like(own_mean[:1], count)))
    everyone = [torch.empty_like(own) for _ in range(dist.get_world_size())]
    dist.all_gather(everyone, own)
    num_channels = x.shape[1]
    table = torch.stack(everyone)  # (P, C + C + 1)
    means, deviations, counts = table[:, :num_channels], table[:, num_channels:-1], table[:, -1:]
    total = counts.sum()
    mean = (means * counts).sum(dim=0) / total
    squares = (deviations + counts * (means - mean).square()).sum(dim=0)
    return mean, squares, total


class _Context(Protocol):
    """The part of autograd's context that `_JointNormalize` uses."""

    saved_tensors: tuple[Tensor, ...]

    def save_for_backward(self, *tensors: Tensor) -> None: ...


class _JointNormalize(torch.autograd.Function):
    """(x - mean) / std, with the gradient through mean and std of the joint batch.

    Source: Ioffe and Szegedy, Batch Normalization, 2015, section 3, the chain rule written for all processes.
    """

    @staticmethod
    def forward(ctx: _Context, x: Tensor, mean: Tensor, inverse_std: Tensor, count: Tensor) -> Tensor:
        normalized = (x.to(mean.dtype) - mean[None, :, None, None]) * inverse_std[None, :, None, None]
        ctx.save_for_backward(normalized, inverse_std, count)
        return normalized

    @staticmethod
    def backward(ctx: _Context, *gradients: Any) -> tuple[Tensor, None, None, None]:
        (gradient,) = gradients
        normalized, inverse_std, count = ctx.saved_tensors
        sums = torch.stack((gradient.sum(dim=(0, 2, 3)), (gradient * normalized).sum(dim=(0, 2, 3))))
        dist.all_reduce(sums)
        mean_gradient, mean_product = (sums / count)[:, None, :, None, None]
        centered = gradient - mean_gradient - normalized * mean_product
        return centered * inverse_std[None, :, None, None], None, None, None


def convert_batch_norm(module: nn.Module, kind: BatchNormKind, *, device_type: str = "cpu") -> nn.Module:
    """Replace every `nn.BatchNorm2d` of a tree; parameters, buffers and their names stay as they are.

    Call it before the model is wrapped and before the optimizer is built.

    Args:
        module: changed in place, and returned; a lone `nn.BatchNorm2d` is only returned changed.
        kind: "frozen" for stored statistics, "synchronized" for those of all processes.
        device_type: where it will train; on "cuda", "synchronized" gives `nn.SyncBatchNorm`, whose kernels are fused.

    Raises:
        ValueError: if kind is none of the two.
    """
    if kind not in ("frozen", "synchronized"):
        raise ValueError(f"batch norm kind {kind!r}: expected 'frozen' or 'synchronized'")
    if kind == "synchronized" and device_type == "cuda":
        converted: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(module)
        return converted
    if type(module) is nn.BatchNorm2d:
        return _replacement(module, kind)
    for name, child in module.named_children():
        setattr(module, name, convert_batch_norm(child, kind, device_type=device_type))
    return module


def _replacement(norm: nn.BatchNorm2d, kind: BatchNormKind) -> nn.BatchNorm2d:
    """The layer that takes over the tensors of norm, not copies of them."""
    cls = FrozenBatchNorm2d if kind == "frozen" else CrossProcessBatchNorm2d
    with torch.device("meta"):
        new = cls(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
    for name, parameter in norm.named_parameters(recurse=False):
        setattr(new, name, parameter.requires_grad_(parameter.requires_grad and kind != "frozen"))
    for name, buffer in norm.named_buffers(recurse=False):
        setattr(new, name, buffer)
    new.train(norm.training)
    return new
