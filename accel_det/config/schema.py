"""What a run of any task computes, as typed values: every key with its unit, its meaning and its bounds.

Where it runs (processes, machines, precision) is not here but in the file that `accelerate config` writes; the keys
under `runtime` only say what the run expects of it. Combinations that cannot work are refused here, before anything
starts.
"""

import re
from collections.abc import Mapping
from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from accel_det.config.section import Option, Positive, Scalar, Section, Share

_SECRET = re.compile(r"key|secret|token|password|passphrase|credential|connection_string|sas", re.IGNORECASE)
_USER_IN_ADDRESS = re.compile(r"://[^/]*@")


class ModelSection(Section):
    name: str = Field(description="network of the zoo; `accel-det models` lists them")
    options: dict[str, Option] = Field({}, description="settings of this network; `accel-det models NAME` lists them")
    weights: str | None = Field(
        None, description="safetensors file, or folder of an export, to start from; what fits is loaded and reported"
    )
    freeze: list[str] = Field(
        [],
        description="patterns of parameter names that are not trained, as in a shell: `network.backbone.*`; batch norms "
        "among them keep their statistics",
    )
    batch_norm: Literal["per_process", "synchronized", "frozen"] = Field(
        "per_process", description="statistics of each process, of all processes, or those of the loaded weights"
    )
    compile: bool = Field(
        False, description="compile the network with torch.compile; slow start, faster steps on a GPU"
    )
    channels_last: bool = Field(
        False,
        description="keep the weights of convolutions with the channels last; faster for many networks of convolutions "
        "alone, above all in half precision on a GPU",
    )


class SetSection(Section):
    format: str = Field(description="how the set is stored")
    root: str = Field("", description="folder, or name on the Hub; ${NAME} and ${NAME:-default} read the environment")
    images: str | None = Field(None, description="folder of the images, below root; where the format's custom differs")
    annotations: str | None = Field(None, description="annotation file or folder, below root")
    accept: list[str] = Field([], description="kinds of defect whose repair is accepted; `accel-det check` names them")
    holdout: Share = Field(0.0, description="share of split `train` that split `val` takes by a hash of the names")
    parameters: dict[str, int | float | str] = Field({}, description="settings of a set that is drawn")
    storage: dict[str, Scalar] = Field(
        {},
        description='options of the server of a streamed set, for fsspec: `{endpoint_url: "https://host:9000"}`; keys and '
        "passwords belong in the environment",
    )
    licence: str | None = Field(None, description="licence of the data, for the model card")

    @model_validator(mode="after")
    def _storage_is_of_a_server_and_holds_no_secret(self) -> Self:
        secret = next((name for name, value in self.storage.items() if _is_secret(name, value)), None)
        if secret is not None:
            raise ValueError(
                f"storage.{secret} is secret, and configurations are copied to runs and exports: leave it out, and give it in "
                "the environment, such as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or in the files of the server's own tools"
            )
        if self.storage and "://" not in self.root:
            raise ValueError(
                f"storage is for a server, but root is {self.root!r}: expected an address, such as s3://bucket/set"
            )
        return self


class DataSection(Section):
    sets: Mapping[str, SetSection] = Field(min_length=1, description="the data sets, by a name of your choice")
    train: str = Field(description="what to train on, `name:split`; several joined with `+`")
    val: str = Field(description="what to evaluate on, `name:split`; several joined with `+`")
    workers: Annotated[int, Field(ge=0)] = Field(2, description="processes per process that decode images; 0 uses none")
    on_bad_image: Literal["stop", "skip"] = Field(
        "stop", description="whether an image that cannot be read ends the run, or is left out of its update"
    )
    max_bad_images: Annotated[int, Field(ge=0)] = Field(
        100, description="different images that may be left out; for on_bad_image: skip"
    )
    streaming: bool = Field(
        False, description="leave the images in their shards, local or remote, until their turn comes; for format: hub"
    )
    streams: Positive = Field(
        16, description="places of the shards that are read at once, over all processes; for streaming"
    )
    stream_window: Positive = Field(
        64,
        description="neighbouring images of a stream that are shuffled together, and so are in memory; for streaming",
    )

    @model_validator(mode="after")
    def _storage_is_for_streams(self) -> Self:
        stored = next((name for name, one in self.sets.items() if one.storage), None)
        if stored is not None and not self.streaming:
            raise ValueError(f"sets.{stored}.storage is for streaming, which is false: set data.streaming to true")
        return self


class OptimizerSection(Section):
    name: Literal["sgd", "adam", "adamw"] = Field("sgd", description="rule of the update; all of torch.optim")
    lr: Annotated[float, Field(gt=0)] = Field(0.01, description="learning rate, before lr_rule is applied")
    lr_rule: Literal["none", "linear", "sqrt"] = Field(
        "none", description="how lr grows with images_per_update / reference_images: not, in proportion, by its root"
    )
    reference_images: Positive = Field(16, description="images per update for which lr is meant; used by lr_rule")
    lr_limits: list[float] | None = Field(
        None, min_length=2, max_length=2, description="smallest and largest rate that lr_rule may give"
    )
    loss_times_images: bool = Field(
        False,
        description="multiply the loss by the images per update: YOLOv5's rule, which scales the loss, not the rate",
    )
    backbone_factor: Annotated[float, Field(gt=0, le=1)] = Field(
        1.0, description="the backbone's share of the learning rate"
    )
    layer_decay: Annotated[float, Field(gt=0, le=1)] = Field(
        1.0,
        description="factor of the rate from each layer of the backbone to the one before it; the last one has "
        "backbone_factor",
    )
    bias_factor: Annotated[float, Field(gt=0)] = Field(
        1.0, description="factor of the rate of biases; Caffe recipes use 2"
    )
    momentum: Annotated[float, Field(ge=0, lt=1)] = Field(0.9, description="SGD's momentum; beta 1 of Adam and AdamW")
    beta2: Annotated[float, Field(ge=0, lt=1)] = Field(0.999, description="beta 2 of Adam and AdamW")
    nesterov: bool = Field(False, description="look-ahead momentum; SGD only")
    weight_decay: Annotated[float, Field(ge=0)] = Field(
        0.0005, description="per step; never applied to biases and normalisation layers"
    )
    warmup_momentum: Annotated[float, Field(ge=0, lt=1)] | None = Field(
        None, description="momentum at the start of the warm-up, from where it rises to momentum"
    )
    warmup_bias_lr: Annotated[float, Field(gt=0)] | None = Field(
        None, description="rate of biases at the start of the warm-up, from where it falls to theirs"
    )
    max_grad_norm: Annotated[float, Field(gt=0)] | None = Field(
        None, description="gradients are clipped to this L2 norm"
    )

    @model_validator(mode="after")
    def _nesterov_needs_sgd(self) -> Self:
        if self.nesterov and (self.name != "sgd" or self.momentum == 0):
            raise ValueError(
                f"nesterov needs name: sgd and momentum above 0, but name is {self.name}, momentum {self.momentum}"
            )
        return self

    @model_validator(mode="after")
    def _limits_are_a_range(self) -> Self:
        if self.lr_limits is not None and not 0 < self.lr_limits[0] <= self.lr_limits[1]:
            raise ValueError(
                f"lr_limits is {self.lr_limits}, expected [smallest, largest] with 0 < smallest <= largest"
            )
        return self


class ScheduleSection(Section):
    name: Literal["constant", "linear", "cosine", "step", "one_cycle"] = Field(
        "cosine", description="course of the learning rate after the warm-up"
    )
    warmup_steps: Annotated[int, Field(ge=0)] = Field(0, description="updates in which the rate rises linearly")
    warmup_epochs: Annotated[float, Field(ge=0)] = Field(
        0.0, description="passes over the data in which the rate rises; the longer of this and warmup_steps counts"
    )
    warmup_power: Annotated[float, Field(gt=0)] = Field(1.0, description="1 rises linearly; Darknet's burn-in has 4")
    warmup_start: Share = Field(0.001, description="share of the rate at which the warm-up begins")
    flat_end: Share = Field(0.0, description="last share of the budget that stays at the final rate; linear and cosine")
    final: Share = Field(0.01, description="share of the rate that is left at the end; constant and step do not use it")
    milestones: list[Share] = Field([0.67, 0.89], description="shares of the budget after which step decays")
    decay: Share = Field(0.1, description="factor of each decay of step")
    peak: Share = Field(0.3, description="share of the budget at which one_cycle is highest")

    @model_validator(mode="after")
    def _one_cycle_warms_up_itself(self) -> Self:
        if self.name == "one_cycle" and (self.warmup_steps or self.warmup_epochs):
            raise ValueError("one_cycle rises by itself: leave warmup_steps and warmup_epochs at 0")
        return self

    @model_validator(mode="after")
    def _some_courses_end_flat(self) -> Self:
        if self.flat_end and self.name not in ("linear", "cosine"):
            raise ValueError(f"flat_end is for linear and cosine, but name is {self.name}: leave it at 0")
        return self


class PhaseSection(Section):
    until: Annotated[float, Field(gt=0, le=1)] = Field(description="share of the budget at which the phase ends")
    freeze: list[str] = Field([], description="patterns of parameter names that are not trained in it")
    lr_factor: Annotated[float, Field(gt=0)] = Field(1.0, description="factor of the learning rate in it")


class TrainSection(Section):
    steps: Positive | None = Field(None, description="budget in optimizer updates; give this or epochs")
    epochs: Annotated[float, Field(gt=0)] | None = Field(None, description="budget in passes over the data")
    images_per_update: Annotated[int, Field(ge=1, le=1_000_000)] = Field(
        16, description="images per update over all processes: the global batch"
    )
    max_images_per_forward: Positive | Literal["auto"] | None = Field(
        None,
        description="images per process and forward pass at most; more are accumulated; auto measures what 90 % of a "
        "GPU's memory, or of runtime.max_memory_gb, holds",
    )
    phases: list[PhaseSection] = Field(
        [], description="parts of the training with parameters frozen; what follows the last phase trains everything"
    )
    seed: Annotated[int, Field(ge=0)] = Field(
        0, description="fresh weights, order of the data, augmentation and dropout follow from it"
    )
    deterministic: bool = Field(False, description="only algorithms that give the same bits each time; slower on a GPU")

    @model_validator(mode="after")
    def _one_budget(self) -> Self:
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("give exactly one of train.steps and train.epochs, and null for the other")
        return self

    @model_validator(mode="after")
    def _phases_follow_each_other(self) -> Self:
        ends = [phase.until for phase in self.phases]
        if any(later <= earlier for earlier, later in pairwise(ends)):
            raise ValueError(f"train.phases end at {ends}: expected each `until` above the one before")
        return self


class EmaSection(Section):
    enabled: bool = Field(True, description="keep a moving average of the weights, evaluate and export it")
    decay: Share = Field(0.9999, description="share of the old average that each update keeps")
    ramp_steps: Annotated[float, Field(gt=0)] = Field(
        2000.0, description="updates in which the decay grows: decay * (1 - exp(-update / ramp_steps))"
    )


class EvaluateSection(Section):
    every_epochs: Annotated[float, Field(gt=0)] | None = Field(
        None, description="passes over the training data between evaluations"
    )
    every_steps: Positive | None = Field(None, description="updates between evaluations")
    images_per_forward: Positive = Field(16, description="images per process and forward pass")
    patience: Positive | None = Field(
        None, description="evaluations without a better result after which training stops"
    )

    @model_validator(mode="after")
    def _at_most_one_interval(self) -> Self:
        if self.every_epochs is not None and self.every_steps is not None:
            raise ValueError(
                "give at most one of evaluate.every_epochs and evaluate.every_steps, and null for the other"
            )
        return self


class CheckpointSection(Section):
    every_steps: Positive | None = Field(None, description="updates between checkpoints; without it at each evaluation")
    keep_last: Annotated[int, Field(ge=2)] = Field(2, description="the newest so many stay, beside the best")
    on_save_error: Literal["stop", "warn"] = Field("stop", description="what a full disk does to the run")


class JournalSection(Section):
    every_steps: Positive = Field(10, description="updates between lines of metrics.jsonl")
    trackers: list[str] = Field(["tensorboard"], description="trackers of accelerate that get the same numbers")


class PushSection(Section):
    repo: str | None = Field(None, description="`owner/name` on the Hub; every best checkpoint is pushed there")
    private: bool = Field(True, description="whether a repository that is created is private")
    licence: str | None = Field(
        None, description="licence of the weights, for the model card, as the Hub writes it: apache-2.0"
    )


class RuntimeSection(Section):
    output: str = Field("runs", description="folder in which the run's folder is made, named as the run")
    processes: Positive | None = Field(None, description="processes that this run expects; another number stops it")
    precision: Literal["no", "bf16", "fp16"] | None = Field(
        None, description="mixed precision that this run expects; without it what accelerate was told"
    )
    timeout_s: Positive = Field(1800, description="seconds after which a process that waits for another gives up")
    threads: Positive | None = Field(None, description="CPU threads per process; without it cores / processes")
    max_memory_gb: Annotated[float, Field(gt=0)] | None = Field(
        None, description="memory per process at most, in GiB: of the GPU, or of the data segment on a CPU"
    )
    max_memory_share: Share | None = Field(None, description="share of a GPU's memory per process at most")


class Config(Section):
    """What every run has; each task adds its own keys under `data` and `evaluate`."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="name of the run and of its folder")
    task: str = Field(description="what the network learns: detection or reid")
    model: ModelSection
    data: DataSection
    optimizer: OptimizerSection = OptimizerSection()
    schedule: ScheduleSection = ScheduleSection()
    train: TrainSection
    ema: EmaSection = EmaSection()
    evaluate: EvaluateSection = EvaluateSection()
    checkpoint: CheckpointSection = CheckpointSection()
    journal: JournalSection = JournalSection()
    push: PushSection = PushSection()
    runtime: RuntimeSection = RuntimeSection()


def _is_secret(name: str, value: Scalar) -> bool:
    """Whether an option gives access: by its name, or as a user in an address."""
    return bool(_SECRET.search(name)) or (isinstance(value, str) and bool(_USER_IN_ADDRESS.search(value)))
