"""Section of the demo's report: concepts that linear probes read from hidden states."""

from pathlib import Path

from analysis.demo_report.demo_results import DemoResults, score_in_words
from analysis.demo_report.figures import draw_probes
from analysis.io.steps import find_step, read_numbers
from analysis.plotting.page import Page
from analysis.probes_precompute import COMMAND, NAME, VERSION

BEST_PROBES = 6
WORST_PROBES = 4


def add_probes(page: Page, results: DemoResults, out: Path) -> None:
    """The best and the worst probes, with their best baselines."""
    if results.env_name != "coinrun":
        return page.text(
            "Left out: concepts such as the distance to a hazard are read from the game's state, which is "
            "supported for CoinRun only."
        )
    numbers = read_numbers(find_step(results.artefacts, NAME, VERSION, COMMAND))
    concepts = sorted(numbers["readers"]["hidden"].items(), key=lambda item: -item[1]["gain"]["value"])
    shown = concepts[:BEST_PROBES] + concepts[BEST_PROBES:][-WORST_PROBES:]
    page.text(
        "A linear probe reads each concept from the agent's hidden state, on held-out layouts. The gain is "
        "over the best of five baselines: the majority class, the encoder output, a network on the single "
        "frame, an untrained recurrence, and nuisances (time, position, last actions)."
    )
    page.text(_summary(concepts, numbers["memory"]))
    page.row([(_draw(shown, out), _caption(numbers, len(concepts)))])
    header = ["concept", "measure", "hidden state", "best baseline", "gain", "layouts", "result"]
    page.table(header, [_row(name, concept) for name, concept in shown])


def _summary(concepts: list[tuple[str, dict]], memory: dict) -> str:
    decodable, beyond = (sum(concept[key] for _, concept in concepts) for key in ("decodable", "beyond"))
    name, added = max(memory.items(), key=lambda item: item[1]["value"])
    return (
        f"Of {len(concepts)} concepts, {decodable} can be decoded from the hidden state, and {beyond} beyond "
        "every baseline. The previous hidden state adds most to the encoder output for: "
        f"{_words(name)} ({score_in_words(added)})."
    )


def _draw(shown: list[tuple[str, dict]], out: Path) -> Path:
    rows = []
    for name, concept in shown:
        label = f"{_words(name)}{' ($R^2$)' if concept['measure'] == 'R2' else ''}"
        rows.append((label, concept["value"], concept["baselines"][concept["best_baseline"]]))
    return draw_probes(rows, out / "probes")


def _caption(numbers: dict, count: int) -> str:
    return (
        f"The {BEST_PROBES} concepts with the largest gain over the best baseline and the {WORST_PROBES} "
        f"with the smallest, of {count}. n = {numbers['steps']:,} steps of {numbers['episodes']} episodes on "
        f"{numbers['layouts']} layouts, levels {numbers['levels']}."
    )


def _row(name: str, concept: dict) -> list:
    best = concept["best_baseline"]
    result = "beyond every baseline" if concept["beyond"] else "decodable" if concept["decodable"] else "no"
    return [
        _words(name),
        concept["measure"],
        score_in_words(concept["value"]),
        f"{best}: {score_in_words(concept['baselines'][best])}",
        score_in_words(concept["gain"]),
        concept["layouts"],
        result,
    ]


def _words(name: str) -> str:
    return name.replace("_", " ")
