"""A hyper-parameter search that survives its process: the only user of Optuna."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import optuna
from optuna.trial import FrozenTrial, Trial, TrialState

from accel_det.cli.search_space import Choices, Space, as_text
from accel_det.draws import mix

_FIRST_RANDOM = 10  # trials before the sampler begins to learn from them


class Tried(NamedTuple):
    """One trial.

    Attributes:
        number: from 0.
        state: "done", "failed" or "running".
        values: key -> text of an override.
        fitness: higher is better; None unless done.
        message: why it failed.
    """

    number: int
    state: str
    values: dict[str, str]
    fitness: float | None
    message: str


class Study:
    """Trials in a SQLite file. What a trial draws depends on the seed, its number and the trials before it.

    Args:
        storage: the file; made where there is none, continued where there is one.
        space: what to search over.
        seed: of all draws.
        agreement: text that says what is searched; another one cannot continue the same file.
        start: values for the first trial; what it leaves out is drawn.

    Raises:
        ValueError: the file holds another search.
    """

    def __init__(self, storage: Path, *, space: Space, seed: int, agreement: str, start: Mapping[str, str]) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._space, self._seed = space, seed
        self._live: dict[int, Trial] = {}
        self._study = optuna.create_study(
            storage=f"sqlite:///{storage}", study_name="tune", direction="maximize", load_if_exists=True
        )
        known = self._study.user_attrs.get("agreement")
        if known is None:
            self._study.set_user_attr("agreement", agreement)
            if start:
                self._study.enqueue_trial({key: self._number_or_text(key, text) for key, text in start.items()})
        elif known != agreement:
            raise ValueError(
                f"{storage}: holds a search with another configuration, space or seed: name another --storage, or remove it"
            )
        for trial in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            self._study.tell(trial.number, state=TrialState.FAIL)  # of a search that was ended

    def ask(self) -> Tried:
        """The next trial to run."""
        number = sum(trial.state != TrialState.WAITING for trial in self._study.get_trials(deepcopy=False))
        self._study.sampler = optuna.samplers.TPESampler(
            seed=mix(self._seed, number) & 0xFFFFFFFF, n_startup_trials=_FIRST_RANDOM
        )
        trial = self._study.ask()
        self._live[trial.number] = trial
        for key, entry in self._space.items():
            if isinstance(entry, Choices):
                trial.suggest_categorical(key, entry.texts)
            elif entry.whole:
                trial.suggest_int(key, int(entry.low), int(entry.high), log=entry.log)
            else:
                trial.suggest_float(key, entry.low, entry.high, log=entry.log)
        return self._tried(self._study.get_trials(deepcopy=False)[trial.number])

    def finish(self, number: int, fitness: float) -> None:
        self._study.tell(number, fitness)

    def fail(self, number: int, message: str) -> None:
        self._live[number].set_user_attr("message", message)
        self._study.tell(number, state=TrialState.FAIL)

    def trials(self) -> list[Tried]:
        """All that were asked for, in their order."""
        trials = self._study.get_trials(deepcopy=False)
        return [self._tried(trial) for trial in trials if trial.state != TrialState.WAITING]

    def best(self) -> Tried | None:
        """The first of the fittest."""
        done = [trial for trial in self.trials() if trial.fitness is not None]
        return max(done, key=lambda trial: (trial.fitness, -trial.number), default=None)

    def _tried(self, trial: FrozenTrial) -> Tried:
        state = {TrialState.COMPLETE: "done", TrialState.FAIL: "failed"}.get(trial.state, "running")
        values = {key: value if isinstance(value, str) else as_text(value) for key, value in trial.params.items()}
        values = {key: values[key] for key in self._space if key in values}
        fitness = trial.value if state == "done" else None
        message = str(trial.user_attrs.get("message", "interrupted")) if state == "failed" else ""
        return Tried(trial.number, state, values, fitness, message)

    def _number_or_text(self, key: str, text: str) -> int | float | str:
        entry = self._space[key]
        if isinstance(entry, Choices):
            return text
        return int(text) if entry.whole else float(text)
