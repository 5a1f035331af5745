"""What is known of a network before it is built."""

import dataclasses
from importlib import import_module


@dataclasses.dataclass(frozen=True)
class ModelCard:
    """One network.

    Attributes:
        name: what `model.name` says.
        task: "detection" or "reid".
        family: name of the module in `accel_det.models` that builds it; imported when first needed.
        options_class: name of the dataclass in that module with the network's settings.
        parameters_m: millions of parameters; of a detector with 80 classes, of a network for re-identification without what
            tells the identities of its training apart.
        gflops: floating point operations of one image of the size that it was designed for, in 10^9; a multiplication and
            an addition are two. 0 until measured.
        size_px: side in pixels that it was designed for; its height, where the width is another.
        resize: the resize mode that it was designed for.
        multiple_px: heights and widths of batch images are multiples of this.
        source: the paper.
        licence: of the code that the network is built from.
        width_px: where it is not `size_px`.
    """

    name: str
    task: str
    family: str
    options_class: str
    parameters_m: float
    size_px: int
    resize: str
    multiple_px: int
    source: str
    gflops: float = 0.0
    licence: str = "Apache-2.0"
    width_px: int | None = None

    @property
    def input_px(self) -> tuple[int, int]:
        """Height and width that it was designed for."""
        return self.size_px, self.width_px or self.size_px

    def options_type(self) -> type:
        """The dataclass of this network's settings."""
        found: type = getattr(import_module(f"accel_det.models.{self.family}"), self.options_class)
        return found
