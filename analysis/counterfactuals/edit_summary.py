"""Numbers of edited levels: mean changes of directions and actions, against those by the control edit."""

from collections.abc import Mapping, Sequence

import numpy as np

from common.stats import estimate, level_weights, mean

STEP = "edited_levels"
VERSION = 1
COMMAND = "python -m analysis.edited_levels_precompute --agent_file AGENT --data_dir STORE"


def summarize_changes(
    edited: np.ndarray, control: np.ndarray, names: Sequence[str], layouts: np.ndarray
) -> dict[str, dict]:
    """For each measure: its mean change by the edit and by the control, and by how much the former is larger.

    Args:
        edited: [B, M], paired changes by the edit.
        control: [B, M], by the control edit of the same state.
        names: [M].
        layouts: [B]; intervals are by layout.

    Returns:
        {name: {"edit": [value, low, high], "control": the same, "lead": the same, "responds": bool}}. lead:
        the size of the edit's mean change less that of the control's.
    """
    weights = level_weights(layouts)
    by_edit, by_control = mean(weights, edited), mean(weights, control)
    lead = np.sign(by_edit[0]) * by_edit - np.abs(by_control)
    return {
        name: {
            "edit": list(estimate(by_edit[:, m])),
            "control": list(estimate(by_control[:, m])),
            "lead": list(estimate(lead[:, m])),
            "responds": bool(estimate(lead[:, m]).low > 0),
        }
        for m, name in enumerate(names)
    }


def responding(summary: Mapping[str, dict]) -> list[str]:
    """Measures that respond, the largest first."""
    found = [name for name, one in summary.items() if one["responds"]]
    return sorted(found, key=lambda name: -abs(summary[name]["edit"][0]))
