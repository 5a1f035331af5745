"""ResNet as R-FCN has it: res5 dilated in place of strided, so that both outputs have stride 16.

Source: He et al., Deep Residual Learning, 2015; Dai et al., R-FCN, 2016, section 2; Dai et al., Deformable Convolutional
Networks, 2017, section 2.1.
"""

from typing import cast

import torch
from torch import Tensor, nn
from torchvision.models.resnet import Bottleneck, ResNet
from torchvision.ops import DeformConv2d

from accel_det.models.layers.batch_norm import FrozenBatchNorm2d

STRIDE = 16
RES4_CHANNELS, RES5_CHANNELS = 1024, 2048
OFFSET_GROUPS = 4  # of the deformable convolutions: so many groups of channels look at places of their own
_STAGES = (("conv1.", "bn1."), ("layer1.",), ("layer2.",), ("layer3.",), ("layer4.",))


class DilatedResNet(nn.Module):
    """The convolutions of a ResNet, named as torchvision names them, whose files of weights therefore fit."""

    def __init__(
        self, blocks: tuple[int, ...], *, width: int, frozen_norm: bool, stride_in_1x1: bool, deformable: bool
    ) -> None:
        """Args:
        blocks: bottlenecks of res2 to res5.
        width: channels inside those of res2; doubled with each stage.
        stride_in_1x1: halve in the first 1x1 convolution of a stage, as He et al.'s Caffe weights, not in the 3x3.
        deformable: the 3x3 convolutions of res5 are deformable.
        """
        super().__init__()
        norm = FrozenBatchNorm2d if frozen_norm else nn.BatchNorm2d
        resnet = ResNet(
            Bottleneck,
            list(blocks),
            width_per_group=width,
            norm_layer=norm,
            replace_stride_with_dilation=[False, False, True],
            num_classes=1,
        )
        self.conv1, self.bn1, self.relu, self.maxpool = resnet.conv1, resnet.bn1, resnet.relu, resnet.maxpool
        self.layer1, self.layer2, self.layer3, self.layer4 = resnet.layer1, resnet.layer2, resnet.layer3, resnet.layer4
        for block in _bottlenecks(self.layer4):
            # torchvision leaves the first one undilated
            block.conv2.dilation, block.conv2.padding = (2, 2), (2, 2)
            if deformable:
                cast(nn.Module, block).conv2 = DeformableConv2d(block.conv2)
        if stride_in_1x1:
            for stage in (self.layer2, self.layer3):
                first = _bottlenecks(stage)[0]
                first.conv1.stride, first.conv2.stride = first.conv2.stride, first.conv1.stride

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, H, W) -> res4 (B, 1024, H / 16, W / 16) and res5 (B, 2048, H / 16, W / 16), both rounded up."""
        res4 = self.first_stages(pixels)
        return res4, self.layer4(res4)

    def first_stages(self, pixels: Tensor) -> Tensor:
        """res4 alone, which is all that proposals need."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(pixels))))
        res4: Tensor = self.layer3(self.layer2(self.layer1(x)))
        return res4

    def freeze_stages(self, count: int) -> None:
        """Stop training the first `count` of conv1 and res2 to res5."""
        starts = tuple(start for stage in _STAGES[:count] for start in stage)
        for name, parameter in self.named_parameters():
            if name.startswith(starts):
                parameter.requires_grad_(False)


class DeformableConv2d(DeformConv2d):
    """A 3x3 convolution that reads where another one tells it to; which says nowhere else at first.

    Computes in float32 under autocast: positions in bfloat16 are off by cells.
    """

    def __init__(self, plain: nn.Conv2d) -> None:
        """Takes over the shape and the weights of a convolution without bias."""
        kernel, dilation = int(plain.kernel_size[0]), int(plain.dilation[0])
        super().__init__(plain.in_channels, plain.out_channels, kernel, padding=dilation, dilation=dilation, bias=False)
        self.weight = cast(nn.Parameter, plain.weight)
        num_offsets = 2 * OFFSET_GROUPS * kernel * kernel
        self.offset = nn.Conv2d(plain.in_channels, num_offsets, kernel, padding=dilation, dilation=dilation)
        nn.init.zeros_(self.offset.weight)
        nn.init.zeros_(cast(Tensor, self.offset.bias))

    def forward(self, input: Tensor, offset: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        assert offset is None
        assert mask is None
        offsets = self.offset(input)
        dtype = self.weight.dtype
        with torch.autocast(input.device.type, enabled=False):
            return super().forward(input.to(dtype), offsets.to(dtype))


def _bottlenecks(stage: nn.Sequential) -> list[Bottleneck]:
    return [cast(Bottleneck, block) for block in stage]
