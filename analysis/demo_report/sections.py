"""Four looks inside for the demo's report: a map of hidden states, what they carry, gradient maps, and one
object deleted."""

from pathlib import Path

import numpy as np

from analysis.demo_report.demo_results import Artefacts, score_in_words
from analysis.demo_report.figures import (
    draw_check,
    draw_gradient_maps,
    draw_map_by_value,
    draw_map_of_worlds,
    draw_probes,
)
from analysis.frame_gradients import STEP as GRADIENTS
from analysis.frame_gradients import VERSION as GRADIENTS_VERSION
from analysis.frame_gradients import correlation
from analysis.gradient_check import GREY_BELOW
from analysis.io.steps import find_step, read_labels, read_numbers, read_part
from analysis.maps.map_summary import COMMAND as MAP_COMMAND
from analysis.maps.map_summary import STEP as MAP
from analysis.maps.map_summary import VERSION as MAP_VERSION
from analysis.plotting.page import Page
from analysis.plotting.style import REAL, SIMULATED
from analysis.probes_precompute import COMMAND as PROBES_COMMAND
from analysis.probes_precompute import NAME as PROBES
from analysis.probes_precompute import VERSION as PROBES_VERSION

MAP_POINTS = 4000
BEST_PROBES = 6
WORST_PROBES = 4
PERCENTILES = {"90th percentile": 0.9, "median": 0.5, "10th percentile": 0.1}


def hidden_map(page: Page, made: Artefacts, out: Path) -> None:
    directory = find_step(made.results, MAP, MAP_VERSION, MAP_COMMAND)
    arrays = read_part(directory, "map_tsne")
    labels = read_labels(directory)
    numbers = read_numbers(directory)
    told = numbers["maps"]["tsne"]
    stores = numbers["stores"]
    some = np.random.default_rng(0).permutation(len(arrays["simulated"]))[:MAP_POINTS]
    n = f"n = {len(arrays['real']):,} real steps of {stores['episodes']} episodes, levels {stores['levels'][0]:,}-{stores['levels'][1]:,}"
    page.text(
        "Each point is the agent's state after one frame. The map is made of real states alone; simulated "
        "ones are placed among them. "
        f"Of a placed state's nearest real neighbours the map keeps {told['placed_simulated']:.0%} for "
        f"simulated states, {told['placed_followed']:.0%} for real ones "
        f"placed in the same way, and {told['by_chance']:.1%} by chance."
    )
    page.row(
        [
            (
                draw_map_by_value(arrays["real"], labels["real"]["value"], out / "map_value"),
                f"Real states by the agent's value. {n}.",
            ),
            (
                draw_map_of_worlds(arrays["real"], arrays["simulated"][some], out / "map_worlds"),
                f"Simulated states (of the {'shipped' if made.shipped else 'demo’s'} model) among real "
                f"ones. {n}; {len(some):,} simulated steps of {stores['sim_episodes']} episodes.",
            ),
        ]
    )
    page.text(
        "A map, not a test: that points overlap in two dimensions does not show that the distributions "
        "agree.",
        note=True,
    )


def probes(page: Page, made: Artefacts, out: Path) -> None:
    if made.env_name != "coinrun":
        return page.text(
            "Left out: only CoinRun has a reader of its states, from which concepts such as the distance "
            "to a hazard are known."
        )
    numbers = read_numbers(find_step(made.results, PROBES, PROBES_VERSION, PROBES_COMMAND))
    entries = sorted(numbers["readers"]["hidden"].items(), key=lambda item: -item[1]["gain"]["value"])
    shown = entries[:BEST_PROBES] + entries[BEST_PROBES:][-WORST_PROBES:]
    n = f"n = {numbers['steps']:,} steps of {numbers['episodes']} episodes on {numbers['layouts']} layouts, levels {numbers['levels']}"
    page.text(
        "A linear probe reads each concept from the agent's hidden state, on layouts that it was not fit "
        "on. A number counts only over the best of five baselines: "
        "the majority, the encoder before the recurrence, a network on the single frame, an untrained "
        "recurrence, and nuisances (time, place, last actions)."
    )
    decodable, beyond = (sum(entry[mark] for _, entry in entries) for mark in ("decodable", "beyond"))
    most, added = max(numbers["memory"].items(), key=lambda item: item[1]["value"])
    page.text(
        f"Of {len(entries)} concepts, {decodable} can be decoded from the hidden state, and {beyond} "
        f"beyond every baseline. The state before the frame adds most to "
        f"what the encoder's output says of: {_words(most)} ({score_in_words(added)})."
    )
    names = [f"{_words(name)}{' ($R^2$)' if entry['measure'] == 'R2' else ''}" for name, entry in shown]
    drawn = [
        (name, entry["value"], entry["baselines"][entry["best_baseline"]])
        for name, (_, entry) in zip(names, shown)
    ]
    few = f"The {BEST_PROBES} concepts with the largest gain over the best baseline, and the {WORST_PROBES} with the smallest, of {len(entries)}."
    page.row([(draw_probes(drawn, out / "probes"), f"{few} {n}.")])
    rows = [
        [
            _words(name),
            entry["measure"],
            score_in_words(entry["value"]),
            f"{entry['best_baseline']}: {score_in_words(entry['baselines'][entry['best_baseline']])}",
            score_in_words(entry["gain"]),
            entry["layouts"],
            "beyond every baseline" if entry["beyond"] else "decodable" if entry["decodable"] else "no",
        ]
        for name, entry in shown
    ]
    page.table(["concept", "measure", "hidden state", "best baseline", "gain", "layouts", "mark"], rows)


def gradients(page: Page, made: Artefacts, out: Path) -> None:
    directory = find_step(
        made.results, GRADIENTS, GRADIENTS_VERSION, "python -m analysis.frame_gradients --help"
    )
    arrays = read_part(directory, "gradients")
    told = read_numbers(directory)
    levels = arrays["level"]
    n = f"n = {len(levels)} frames, one a level, levels {levels.min():,}-{levels.max():,}"
    greyed = {route for route in ("agent", "simulator") if supports_nothing(told[f"check/{route}"])}
    agreement = np.nan_to_num(correlation(arrays["predicted/agent"], arrays["measured/agent"]), nan=-2)
    order = np.argsort(agreement, kind="stable")
    chosen = {f"{name}": int(order[round(q * (len(order) - 1))]) for name, q in PERCENTILES.items()}
    page.text(
        f"How the agent's value depends on each pixel: of the frame that it sees, and of the last frame "
        f"that the simulator is given, for the value {told['steps']} steps later "
        "along the recorded actions. Two controls: the same network with untrained weights, and finite "
        "differences (a patch made brighter and darker)."
    )
    page.picture(
        draw_gradient_maps(arrays, chosen, greyed, out / "gradients"),
        "Length of the value's gradient at each pixel, averaged over 3 x 3 pixels, each map by its own "
        "scale. Rows by rule: percentiles of the agreement with finite "
        f"differences on the agent's route. Grey: a route whose agreement is below {GREY_BELOW}, whose "
        f"map supports no claim. {n}.",
    )
    words = {
        "agent": "the agent on the real frame",
        "simulator": f"through the simulator, {told['steps']} steps, {told['draws']} rollouts",
    }
    page.row(
        [
            (
                draw_check(
                    arrays[f"predicted/{route}"], arrays[f"measured/{route}"], look, out / f"check_{route}"
                ),
                f"Change of the value, {text}: a point per patch ({told['patches']} a frame); "
                f"correlation within a frame {_mean(told[f'check/{route}'])}. {n}.",
            )
            for (route, text), look in zip(words.items(), (REAL, SIMULATED))
        ]
    )
    page.table(
        ["mean over frames", "correlation", "n"],
        [
            ["gradient and finite difference: agent", _mean(told["check/agent"]), len(levels)],
            ["gradient and finite difference: simulator", _mean(told["check/simulator"]), len(levels)],
            [
                "map: agent and untrained weights (rank, 8 x 8 pixels)",
                _mean(told["like untrained"]),
                len(levels),
            ],
            [
                "map: agent and simulator (rank, 8 x 8 pixels)",
                _mean(told["like the simulator's"]),
                len(levels),
            ],
        ],
    )
    page.text(
        "What a map shares with that of untrained weights owes nothing to training: edges and the middle "
        "of the frame, most of all.",
        note=True,
    )


def supports_nothing(check: dict | None) -> bool:
    """Whether a route's gradients agree so little with finite differences that no figure may show them in
    colour."""
    return check is None or check["mean"] < GREY_BELOW or check["low"] <= 0


def _mean(interval: dict | None) -> str:
    return (
        "undefined"
        if interval is None
        else f"{interval['mean']:.2f} [{interval['low']:.2f}, {interval['high']:.2f}]"
    )


def _words(name: str) -> str:
    return name.replace("_", " ")
