"""What the page calls functions, samples and actions."""

from collections.abc import Sequence

from analysis.panel.run_samples import RunSamples
from analysis.rendering.arrows import arrow_direction

_PLAIN = {
    "value": "value",
    "value_delta": "change of the value over the next step",
    "action": "log-probability of the action taken",
    "entropy": "entropy of the policy",
    "reward": "expected reward of the action",
    "done": "log-odds that the action ends the episode",
}
_PATHS = {"total": "whole gradient", "agent": "through the agent's memory alone"} | {
    "environment": "through what the environment shows, actions held",
    "mixed": "through changed actions",
}


def function_words(name: str, actions: Sequence[str]) -> str:
    """What a function is: "hx_direction_3_ica" -> "score of direction 3 (ica)"."""
    base, _, path = name.partition("@")
    suffix = f" ({_PATHS.get(path, path)})" if path else ""
    if base in _PLAIN:
        return _PLAIN[base] + suffix
    if base.startswith("hx_direction_"):
        number, kind = base.removeprefix("hx_direction_").split("_", 1)
        return f"score of direction {number} ({kind}){suffix}"
    if base.startswith("hidden_"):
        return f"hidden unit {base.removeprefix('hidden_')}{suffix}"
    action = base.removeprefix("action_")
    if action in actions:
        return f"log-probability of {action}{suffix}"
    return f"log-probability of all actions {base.replace('_', ' ')}{suffix}"


def sample_words(samples: RunSamples) -> list[str]:
    """Number, level, and where it began, of every sample."""
    columns = (samples.ids, *(samples.origin(name) for name in ("level", "episode", "step")))
    return [_origin(*row) for row in zip(*columns)]


def _origin(sample: int, level: int, episode: int, step: int) -> str:
    parts = [f"sample {sample}"]
    parts += [f"level {level:,}"] if level >= 0 else []
    parts += [f"episode {episode}, step {step}"] if episode >= 0 else []
    return " · ".join(parts)


def action_glyphs(names: Sequence[str]) -> list[dict]:
    """Name of every action, with the direction that an arrow shows, None where it has no direction."""
    return [{"name": name, "arrow": arrow_direction(name)} for name in names]
