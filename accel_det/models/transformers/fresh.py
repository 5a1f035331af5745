"""Fresh weights as the papers draw them.

transformers starts from stored weights, and its own draws are not made to train from: in its RT-DETR and D-FINE every
batch norm outside of the backbone begins with a scale of about 0.01, which leaves nothing of the image after two of them.
"""

import torch
from torch import nn

from accel_det.models.transformers.kinds import Kind


@torch.no_grad()
def draw_weights(network: nn.Module, kind: Kind) -> None:
    """Draw the weights of a network anew, from torch's global generator.

    Linear layers outside of the backbone are drawn after Glorot, convolutions there as torch does, those of a
    convolutional backbone after He; batch norms begin with 1 and 0. What begins with 0 or is a vision transformer's
    stays as it is, and so do all biases.

    Source: Carion et al., 2020, appendix A.4; He et al., Delving Deep into Rectifiers, 2015.
    """
    if kind.model_type == "yolos":
        return
    for name, module in network.named_modules():
        inside = name.startswith(kind.backbone) and "projector" not in name
        if isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()
        elif isinstance(module, nn.Conv2d):
            if inside and kind.convolutional:
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif not inside:
                module.reset_parameters()
        elif isinstance(module, nn.Linear) and not inside and module.weight.any():
            nn.init.xavier_uniform_(module.weight)
