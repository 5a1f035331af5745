"""A way around a defect of torch, which gives wrong gradients without a word."""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

_BEFORE_SEQUENCES = ("encoder_input_proj", "decoder_input_proj", "fusion_proj")


def order_gradients(network: nn.Module) -> None:
    """Let gradients come in laid out as the maps are, where networks turn maps into sequences of pixels.

    On a CPU, the gradient of `batch_norm` for a batch of one image is wrong by as much as its own size, where the gradient
    that comes in is a sequence of pixels seen as a map: channels last, with an unusual first stride (torch 2.15).
    """
    for name, module in network.named_modules():
        if name.rpartition(".")[0].endswith(_BEFORE_SEQUENCES):
            module.register_forward_hook(_watch)


def _watch(module: nn.Module, inputs: Any, output: Tensor) -> None:
    if output.requires_grad and output.device.type == "cpu" and len(output) == 1:
        layout = torch.contiguous_format if output.is_contiguous() else torch.channels_last
        output.register_hook(partial(Tensor.contiguous, memory_format=layout))
