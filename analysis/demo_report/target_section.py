"""Section of the demo's report: latents of the simulator that are optimised for what the agent does."""

from pathlib import Path

from analysis.demo_report.demo_results import TARGET_RUNS, DemoResults, latest_finished, mean_in_words
from analysis.io.steps import read_numbers
from analysis.plotting.page import Page
from analysis.targets.figures import LABELS, draw_targets, few_levels
from common.stats import NO_INTERVALS

HEADER = ["target", *LABELS.values(), "optimised less best recorded", "real moments near"]


def add_targets(page: Page, results: DemoResults, out: Path) -> None:
    """Values of optimised latents and of the best of as many simulations, and the film strips."""
    directory = latest_finished(results.artefacts / TARGET_RUNS)
    numbers = read_numbers(directory)
    targets = numbers["targets"]
    first, last = numbers["moment_level_range"]
    n = (
        f"n = {numbers['starts']} starts, {numbers['iterations']} iterations, {numbers['moments']:,} "
        f"recorded moments of {numbers['moment_levels']} levels, {first:,}-{last:,}"
    )
    page.text(
        "Which scenes make the agent do something? Latents of the simulator are changed by gradient, with "
        "the agent in the loop, and compared with the best of as many recorded moments, and of as many "
        "random latents, as cost the same number of simulated steps. Values are means over "
        f"{numbers['report_rollouts']} rollouts with fresh noise, of an action its log-probability."
    )
    few = any(few_levels(target) for target in targets.values())
    about = NO_INTERVALS if few else "intervals resample starts"
    picture = draw_targets(numbers, list(targets), out / "targets.png")
    page.picture(picture, f"All latents. {n}.")
    page.table(HEADER, [[name.replace("_", " "), *target_row(target)] for name, target in targets.items()])
    strips = {name: directory / f"{name}_strip.png" for name in targets}
    page.row(
        [(path, f"{name}: starts, optimised latents, real moments. {n}.") for name, path in strips.items()]
    )
    page.text(
        f"{n}; {about}. This is what {numbers['iterations']} iterations reach; the default "
        "is 150. An optimum that no recorded moment is near is a claim about the simulator only.",
        note=True,
    )


def target_row(target: dict) -> list[str]:
    """Cells of one target: each arm's value, the gain over the best recorded moments, and the matches."""
    values = [mean_in_words(target["arms"][arm]["value"]) for arm in LABELS]
    near = target["arms"]["optimised"]["matches"]["hidden"]
    return [*values, mean_in_words(target["gain_over"]["best_recorded"]), f"{near['near']} of {near['n']}"]
