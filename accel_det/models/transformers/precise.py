"""Box heads in float32 under autocast: in bfloat16 a share of 640 pixels is off by more than one of them."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Float32Linear(nn.Linear):
    """`nn.Linear` that computes in the number type of its weights, whatever autocast says."""

    def forward(self, input: Tensor) -> Tensor:
        with torch.autocast(input.device.type, enabled=False):
            return F.linear(input.to(self.weight.dtype), self.weight, self.bias)


def keep_boxes_precise(network: nn.Module) -> None:
    """Replace the last layer of every head whose name says `bbox`; parameters and their names stay as they are."""
    for name, module in network.named_modules():
        layers = getattr(module, "layers", None)
        if "bbox" not in name or not isinstance(layers, nn.ModuleList) or type(layers[-1]) is not nn.Linear:
            continue
        old = layers[-1]
        with torch.device("meta"):
            new = Float32Linear(old.in_features, old.out_features, bias=old.bias is not None)
        for key, parameter in old.named_parameters():
            setattr(new, key, parameter)
        layers[-1] = new
