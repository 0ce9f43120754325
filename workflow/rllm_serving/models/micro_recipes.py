"""Sizes and training schedules of the micro models; importable without torch, so that a study can be checked."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TrainingStage:
    """A part of the training schedule.

    Attributes:
        steps: optimizer steps.
        step_tokens: tokens of a step, about.
        mix: share of questions of each suite, in the order of SUITES.
    """

    steps: int
    step_tokens: int
    mix: tuple[float, float, float, float]


@dataclass(frozen=True)
class ModelConfig:
    """Size and training schedule of one role.

    Attributes:
        heads: attention heads; a tensor parallel size must divide them.
        layers: transformer layers.
        intermediate: width of the feed-forward layers.
        thinks: whether the model learns to think before it answers.
        stages: the schedule, in order.
    """

    heads: int
    layers: int
    intermediate: int
    thinks: bool
    stages: tuple[TrainingStage, ...]


# Short questions first: they teach arithmetic and facts at little cost, long ones then the long working.
_THINKING = (TrainingStage(600, 1024, (0.4, 0.15, 0.0, 0.45)), TrainingStage(350, 2048, (0.2, 0.2, 0.3, 0.3)))
RECIPES = {
    "llm": ModelConfig(4, 4, 512, False, (TrainingStage(1000, 1024, (0.45, 0.12, 0.03, 0.4)),)),
    "rllm": ModelConfig(4, 4, 512, True, _THINKING),
    "draft": ModelConfig(2, 2, 384, True, _THINKING),
}
