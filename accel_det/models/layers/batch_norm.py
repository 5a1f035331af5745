"""Batch normalisation for training on several processes: statistics of all of them, or frozen ones.

The classes keep the parameter and buffer names of `nn.BatchNorm1d` and `nn.BatchNorm2d`, so weights move freely.
Letters: C channels, P processes.
"""

from typing import Any, Literal, Protocol

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

BatchNormKind = Literal["frozen", "synchronized"]


class _Frozen(_BatchNorm):
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


class FrozenBatchNorm1d(_Frozen, nn.BatchNorm1d):
    """`nn.BatchNorm1d` as it is."""


class FrozenBatchNorm2d(_Frozen, nn.BatchNorm2d):
    """`nn.BatchNorm2d` as it is."""


class _CrossProcess(_BatchNorm):
    """Normalises the joint batch of all processes, with its exact gradient, on any device and backend.

    Processes may hold different numbers of images, of different sizes. In eval mode, and on one process, it is
    torch's own. Collective in train mode: every process must call forward, and backward, equally often.
    """

    def forward(self, input: Tensor) -> Tensor:
        if not self.training or not dist.is_available() or not dist.is_initialized() or dist.get_world_size() == 1:
            return super().forward(input)
        self._check_input_dim(input)  # type: ignore[no-untyped-call]
        mean, squares, count = _joint_statistics(input.detach())
        if self.running_mean is not None and self.running_var is not None:
            self._update_running(mean, squares / (count - 1).clamp(min=1))
        inverse_std = (squares / count + self.eps).rsqrt()
        normalized: Tensor = _JointNormalize.apply(input, mean, inverse_std, count)
        if not self.affine:
            return normalized.to(input.dtype)
        scaled = normalized * _along(self.weight, input) + _along(self.bias, input)
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


class CrossProcessBatchNorm1d(_CrossProcess, nn.BatchNorm1d):
    """`nn.BatchNorm1d` of all processes."""


class CrossProcessBatchNorm2d(_CrossProcess, nn.BatchNorm2d):
    """`nn.BatchNorm2d` of all processes."""


def _along(values: Tensor, x: Tensor) -> Tensor:
    """(C,) -> what multiplies the channels of x, (B, C, ...)."""
    return values.reshape(1, -1, *[1] * (x.ndim - 2))


def _others(x: Tensor) -> list[int]:
    """The dimensions of x beside its channels."""
    return [0, *range(2, x.ndim)]


def _joint_statistics(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean (C,), sum of squared deviations from it (C,) and number of values per channel () over all processes.

    Collective: every process must call it.

    Each process sends its own mean and squared deviations: sums of raw squares would cancel in float32.
    Source: Chan, Golub, LeVeque, Updating Formulae for Computing Sample Variances, 1979, equation 2.1.
    """
    wide = x.double() if x.dtype == torch.float64 else x.float()
    count = wide.numel() // wide.shape[1]
    own_mean = wide.sum(dim=_others(x)) / max(count, 1)
    own_squares = (wide - _along(own_mean, x)).square().sum(dim=_others(x))
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
        normalized = (x.to(mean.dtype) - _along(mean, x)) * _along(inverse_std, x)
        ctx.save_for_backward(normalized, inverse_std, count)
        return normalized

    @staticmethod
    def backward(ctx: _Context, *gradients: Any) -> tuple[Tensor, None, None, None]:
        (gradient,) = gradients
        normalized, inverse_std, count = ctx.saved_tensors
        others = _others(gradient)
        sums = torch.stack((gradient.sum(dim=others), (gradient * normalized).sum(dim=others)))
        dist.all_reduce(sums)
        mean_gradient, mean_product = sums / count
        centered = gradient - _along(mean_gradient, gradient) - normalized * _along(mean_product, gradient)
        return centered * _along(inverse_std, gradient), None, None, None


def convert_batch_norm(module: nn.Module, kind: BatchNormKind, *, device_type: str = "cpu") -> nn.Module:
    """Replace every `nn.BatchNorm1d` and `nn.BatchNorm2d` of a tree; parameters, buffers and their names stay as they are.

    Call it before the model is wrapped and before the optimizer is built.

    Args:
        module: changed in place, and returned; a lone norm is only returned changed.
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
    if type(module) in _REPLACEMENTS:
        return _replacement(module, kind)  # type: ignore[arg-type]
    for name, child in module.named_children():
        setattr(module, name, convert_batch_norm(child, kind, device_type=device_type))
    return module


_REPLACEMENTS: dict[type[nn.Module], dict[BatchNormKind, type[_BatchNorm]]] = {
    nn.BatchNorm1d: {"frozen": FrozenBatchNorm1d, "synchronized": CrossProcessBatchNorm1d},
    nn.BatchNorm2d: {"frozen": FrozenBatchNorm2d, "synchronized": CrossProcessBatchNorm2d},
}


def _replacement(norm: _BatchNorm, kind: BatchNormKind) -> _BatchNorm:
    """The layer that takes over the tensors of norm, not copies of them."""
    cls = _REPLACEMENTS[type(norm)][kind]
    with torch.device("meta"):
        new = cls(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
    for name, parameter in norm.named_parameters(recurse=False):
        setattr(new, name, parameter.requires_grad_(parameter.requires_grad and kind != "frozen"))
    for name, buffer in norm.named_buffers(recurse=False):
        setattr(new, name, buffer)
    new.train(norm.training)
    return new
