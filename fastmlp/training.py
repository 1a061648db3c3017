"""The training loop: epochs, evaluation, history, stopping."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping

import numpy as np

from fastmlp.checkpoints import Keeper
from fastmlp.errors import ConfigError
from fastmlp.evaluation import Score, evaluate
from fastmlp.examples import Examples
from fastmlp.history import History, Row
from fastmlp.precise_bn import check_precise_bn, measure_statistics
from fastmlp.progress import Progress
from fastmlp.trainer import SILENCE, Trainer


def train(trainer: Trainer, total_steps: int, *, parts: Mapping[str, Examples], evaluate_every: int = 1,
          watcher: Progress = SILENCE, should_stop: Callable[[], bool] | None = None,
          history: History | None = None, description: str = "training", precise_bn: bool = False,
          keeper: Keeper | None = None) -> History:
    """Train until `total_steps` updates are made, measuring on the way.

    Parameters
    ----------
    trainer : Trainer
        It may already have made some steps.
    total_steps : int
        Steps at the end, counted from the trainer's birth.
    parts : mapping from "train" and / or "val" to Examples
        What to evaluate on.
    evaluate_every : int, default 1
        Epochs between evaluations, at least 1; step 0 and the end are always evaluated.
    watcher : Progress, optional
        Told about every step (recorded ones together) and epoch; silent by default.
    should_stop : callable, optional
        Asked before every step, or stretch of recorded steps; when it says yes, training ends there, without a last
        evaluation. Called again, it goes on as if it had not been stopped.
    history : History, optional
        Filled as training goes, so that it is there after an error too; continued if it has rows.
    description : str, default "training"
        What the watcher calls it.
    precise_bn : bool, default False
        After the last step, before the last evaluation, measure batch norm's statistics anew, over the trainer's
        examples; a training that is stopped keeps its moving averages.
    keeper : Keeper, optional
        Saves checkpoints on the way, and where training is stopped.

    Returns
    -------
    History

    Raises
    ------
    ConfigError
        `evaluate_every` is below 1, or `precise_bn` is asked for without batch norm.
    DivergenceError
        See `Trainer.run_epoch`; also when an evaluation finds a cost that is not finite. In a population the member is
        frozen, and as long as there are others they go on.
    """
    if evaluate_every < 1:
        raise ConfigError(f"evaluate_every = {evaluate_every} must be at least 1")
    if precise_bn:
        check_precise_bn(trainer.network)
    history = History() if history is None else history
    if trainer.position and history.rows and history.rows[-1]["step"] == trainer.step:
        history.rows.pop()                              # of where the training was stopped
    total_epochs = -(-total_steps // trainer.steps_per_epoch)
    watcher.start(total_steps, total_epochs, description, trainer.step)
    try:
        if not history.rows:
            history.rows.append(_measure(trainer, parts))
        while trainer.step < total_steps:
            pause = _Pause(should_stop, keeper)
            report = trainer.run_epoch(total_steps - trainer.step, watcher, pause)
            if len(report.losses):
                history.add_epoch(report.seconds, report.n_examples, goes_on=report.first > 0, n=trainer.examples.n)
            if report.complete:
                if precise_bn and trainer.step >= total_steps:
                    measure_statistics(trainer.network, trainer.examples, trainer.batch_size)
                    trainer.restore_frozen()
                due = trainer.step >= total_steps or trainer.epoch % evaluate_every == 0
                row = _measure(trainer, parts if due else {})
                history.rows.append(row)
                watcher.epoch_done(row)
            stopped = not report.complete and pause.for_good
            if keeper is not None and (stopped or keeper.wants(trainer, total_steps)):
                keeper.save(trainer, history)
            if stopped:
                if trainer.position:
                    history.rows.append(_measure(trainer, {}))
                break
    finally:
        watcher.finish()
    return history


class _Pause:
    """When to stop amid an epoch: when asked to, or to save; but not before one more step has been made."""

    def __init__(self, should_stop: Callable[[], bool] | None, keeper: Keeper | None) -> None:
        self._should_stop, self._keeper, self._asked = should_stop, keeper, itertools.count()
        self.for_good = False

    def __call__(self) -> bool:
        self.for_good = self._should_stop is not None and self._should_stop()
        return self.for_good or (next(self._asked) > 0 and self._keeper is not None and self._keeper.is_time())


def _measure(trainer: Trainer, parts: Mapping[str, Examples]) -> Row:
    """One row of the history; numbers for one network, arrays (M,) for a population."""
    single = trainer.network.members == 1
    scores = _finite_scores(trainer, parts)
    rate = trainer.rates(trainer.step, 1)[0]
    row: Row = {"step": trainer.step, "epoch": trainer.epoch, "lr": float(rate[0]) if single else rate}
    for name, score in scores.items():
        for measure in ("loss", "cost", "accuracy"):
            value = getattr(score, measure)
            row[f"{name}_{measure}"] = float(value[0]) if single else value
    return row if single else {**row, "frozen": trainer.is_frozen}


def _finite_scores(trainer: Trainer, parts: Mapping[str, Examples]) -> dict[str, Score]:
    """The scores by part; measured again, if members had to be put back into their last good state."""
    with np.errstate(all="ignore"):
        scores = {name: evaluate(trainer.network, examples) for name, examples in parts.items()}
    rates, fell = trainer.rates(max(trainer.step - 1, 0), 1)[0], False
    for score in scores.values():
        for member in np.flatnonzero(~np.isfinite(score.cost) & ~trainer.is_frozen):
            trainer.diverged(f"the evaluated cost became {score.cost[member]}", trainer.step, float(rates[member]),
                             int(member))
            fell = True
    return _finite_scores(trainer, parts) if fell else scores
