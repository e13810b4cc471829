"""Training curves: smoothing, means over seeds, published curves and flags."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.collections import PolyCollection

import plot_training_csv
from agents.training_log import COLUMNS
from analysis.plotting.style import (
    GROUPS,
    NULL,
    PUBLISHED,
    REAL,
    SIMULATED,
    add_caption,
    new_figure,
    save_figure,
)
from analysis.training_curves.curves import (
    common_curves,
    find_runs,
    group_runs,
    join_runs,
    load_run,
    published_for,
    smooth,
)
from analysis.training_curves.figures import draw_columns, draw_returns, steps_in_words
from common.checkpoints import save_checkpoint
from common.cli import run_main
from common.runs import UsageError, file_id
from tests.helpers.figure_checks import cut_texts


def make_run(directory: Path, seed=0, rows=40, mode="easy", game="coinrun", core="gru", config=True) -> Path:
    """A run of made-up numbers: 16,384 steps a row, an evaluation every fifth."""
    directory.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    with open(directory / "log.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        for i in range(1, rows + 1):
            row = {
                name: rng.random()
                for name in ("mean_episode_len", "mean_entropy_loss", "explained_variance", "learning_rate")
            }
            row |= {"timesteps": i * 16384, "mean_episode_rewards": 5 + 3 * i / rows + rng.normal() / 5}
            writer.writerow(row | ({"val_mean_episode_rewards": 5 + 2 * i / rows} if i % 5 == 0 else {}))
    if config:
        env = {"env_name": game, "distribution_mode": mode, "start_level": 0, "num_levels": 200}
        args = {"seed": seed, "start_level": 0, "num_levels": 200, "eval_episodes": 128, "agent_file": None}
        (directory / "config.json").write_text(
            json.dumps({"args": args, "env": env, "network": {"core": core}, "ppo": {}})
        )
    return directory


def check_smoothing(function) -> None:
    rng = np.random.default_rng(3)
    steps = np.cumsum(rng.integers(1, 9, 200)) * 10.0
    values = rng.normal(size=200) + 100
    for window in (0, 10, 95, 400, 10**6):
        expected = [np.mean([v for s, v in zip(steps, values) if abs(s - at) <= window / 2]) for at in steps]
        np.testing.assert_allclose(function(steps, values, window), expected, rtol=1e-12)


def test_smoothing_matches_its_definition():
    check_smoothing(smooth)


@pytest.mark.parametrize(
    "mutant",
    [
        lambda steps, values, window: smooth(steps, values, 2 * window),
        lambda steps, values, window: smooth(steps, np.roll(values, 1), window),
        lambda steps, values, window: smooth(steps + window / 2, values, window)[::-1],
        lambda steps, values, window: [
            values[max(i - int(window // 10), 0) : i + 1].mean() for i in range(len(values))
        ],
    ],
)
def test_the_smoothing_test_catches_mutants(mutant):
    with pytest.raises(AssertionError):
        check_smoothing(mutant)


def test_smoothing_keeps_a_constant_exactly():
    assert set(smooth(np.arange(1000.0), np.full(1000, 5e-4), 77)) == {5e-4}


def test_common_curves_span_what_all_seeds_span():
    steps, values = common_curves(
        [(np.array([0.0, 10, 20]), np.array([0.0, 10, 20])), (np.array([5.0, 15, 25]), np.array([1.0, 1, 1]))]
    )
    np.testing.assert_array_equal(steps, [5, 10, 15, 20])
    np.testing.assert_allclose(values, [[5, 10, 15, 20], [1, 1, 1, 1]])


def test_seeds_make_a_group_and_other_networks_another(tmp_path):
    made = (("a/0", 0, "gru"), ("b/1", 1, "gru"), ("a/2", 2, "none"))
    runs = [load_run(make_run(tmp_path / name, seed, core=core)) for name, seed, core in made]
    assert [[run.dir.name for run in group] for group in group_runs(runs)] == [["0", "1"], ["2"]]
    again = load_run(make_run(tmp_path / "again", seed=1))  # a seed counts once in a group
    assert [[run.dir.name for run in group] for group in group_runs([*runs, again])] == [
        ["0", "1"],
        ["2"],
        ["again"],
    ]


@pytest.mark.parametrize(
    ("game", "mode", "there"),
    [("coinrun", "easy", True), ("coinrun", "hard", False), ("jumper", "easy", False)],
)
def test_published_curve_only_behind_coinrun_easy(tmp_path, game, mode, there):
    run = load_run(make_run(tmp_path / "run", game=game, mode=mode))
    assert (published_for([run]) is not None) == there
    for figure in (draw_returns([run], 0), draw_columns([run], 0)):
        drawn = [
            line for axis in figure.axes for line in axis.lines if line.get_color() == PUBLISHED["color"]
        ]
        assert len(drawn) == (2 if there else 0)


@pytest.mark.parametrize("option", ["blink", "random_coin"])
def test_published_curve_is_not_of_another_game(tmp_path, option):
    blink, plain = (make_run(tmp_path / name) for name in ("blink", "plain"))
    config = json.loads((blink / "config.json").read_text())
    config["env"][option] = True
    (blink / "config.json").write_text(json.dumps(config))
    assert published_for([load_run(blink)]) is None
    assert published_for([load_run(plain), load_run(blink)]) is None
    assert published_for([load_run(plain)]) is not None


def test_published_curve_needs_a_config_and_one_game(tmp_path):
    without = load_run(make_run(tmp_path / "x" / "run", config=False))
    easy = load_run(make_run(tmp_path / "easy"))
    hard = load_run(make_run(tmp_path / "hard", mode="hard"))
    assert published_for([without]) is None
    assert published_for([easy, hard]) is None


def test_what_is_drawn_is_what_the_log_says(tmp_path):
    run = load_run(make_run(tmp_path / "run", rows=20))
    axis = draw_returns([run], 0).axes[0]
    ours = [line for line in axis.lines if line.get_color() in GROUPS[:2]]
    for line, name in zip(ours, ("mean_episode_rewards", "val_mean_episode_rewards"), strict=True):
        np.testing.assert_allclose(line.get_xydata().T, run.curve(name), rtol=1e-12)
    assert len(ours[1].get_xdata()) == 4


def test_seeds_are_thin_and_their_mean_is_thick(tmp_path):
    runs = [load_run(make_run(tmp_path / str(seed), seed, rows=10 + seed)) for seed in range(3)]
    lines = [line for line in draw_returns(runs, 0).axes[0].lines if line.get_color() == REAL["color"]]
    train = lines[:4]
    assert [line.get_linewidth() < 1 for line in train] == [True, True, True, False]
    np.testing.assert_allclose(
        train[3].get_ydata(), np.mean([line.get_ydata()[:10] for line in train[:3]], axis=0)
    )


@pytest.mark.parametrize("count", [1, 2, 3])
def test_the_band_goes_from_the_lowest_to_the_highest_seed_of_whole_lineages(tmp_path, count):
    runs = join_runs([load_run(path) for i in range(count) for path in lineage(tmp_path / str(i), 10 * i)])
    figure = draw_returns(runs, 0)
    bands = [band for band in figure.axes[0].collections if isinstance(band, PolyCollection)]
    assert len(group_runs(runs)) == 1
    assert len(bands) == (2 if count > 1 else 0)
    assert cut_texts(figure) == []
    if bands:
        values = np.stack([run.curve("mean_episode_rewards")[1] for run in runs])
        places = bands[0].get_paths()[0].vertices
        for step, low, high in zip(runs[0].columns["timesteps"], values.min(0), values.max(0)):
            here = places[places[:, 0] == step, 1]
            assert np.isclose(here, low).any()
            assert np.isclose(here, high).any()


def test_seeds_trained_in_another_precision_are_one_experiment(tmp_path):
    for seed in range(2):
        config = json.loads((make_run(tmp_path / str(seed), seed) / "config.json").read_text())
        config["network"]["precision"] = ("bf16", "float32")[seed]
        (tmp_path / str(seed) / "config.json").write_text(json.dumps(config))
    assert len(group_runs([load_run(tmp_path / str(seed)) for seed in range(2)])) == 1


def test_caption_names_n_and_levels(tmp_path):
    runs = [load_run(make_run(tmp_path / str(seed), seed)) for seed in range(2)]
    caption = draw_returns(runs, 50_000).get_supxlabel().replace("\n", " ").replace("\N{NO-BREAK SPACE}", " ")
    for words in ("n = 2 seeds", "0-199 (training)", "250-377", "50k environment steps"):
        assert words in caption


def test_palette_distinguishes_real_simulated_and_null():
    assert len({style["color"] for style in (REAL, SIMULATED, NULL, PUBLISHED)}) == 4
    assert (REAL["linestyle"], SIMULATED["linestyle"]) == ("-", "--")


def test_figures_are_written_atomically_and_reproducibly(tmp_path):
    def draw():
        figure, axes = new_figure()
        axes[0, 0].plot([0, 1], [0, 1], **REAL)
        add_caption(figure, "A line.", "2 points", "0-1")
        return figure

    first = save_figure(draw(), tmp_path / "a", ("png", "svg", "pdf"))
    second = save_figure(draw(), tmp_path / "b", ("png", "svg", "pdf"))
    assert [path.name for path in first] == ["a.png", "a.svg", "a.pdf"]
    assert all(one.read_bytes() == other.read_bytes() for one, other in zip(first, second))
    with pytest.raises(UsageError, match="unknown figure format 'gif'"):
        save_figure(draw(), tmp_path / "c", ("png", "gif"))
    assert not list(tmp_path.glob("*c*"))


def test_each_flag_changes_an_output(tmp_path, monkeypatch):
    monkeypatch.setattr("analysis.plotting.style.DPI", 40)
    one = make_run(tmp_path / "runs" / "0", 0, 12)
    two = make_run(tmp_path / "runs" / "1", 1, 12)

    def drawn(name: str, *datapath: Path, **flags) -> dict[str, bytes]:
        plot_training_csv.main(plot_training_csv.Args(datapath, out_dir=tmp_path / name, **flags))
        return {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()}

    base = drawn("base", one)
    assert set(base) == {"plot.png", "plot_for_fig.png"}
    for changed in (drawn("both", one, two), drawn("smooth", one, smoothing=0)):
        assert all(changed[name] != base[name] for name in base)
    assert set(drawn("svg", one, formats=("svg",))) == {"plot.svg", "plot_for_fig.svg"}
    plot_training_csv.main(plot_training_csv.Args((one,)))  # default: next to the log
    assert (one / "plot_for_fig.png").read_bytes() == base["plot_for_fig.png"]


def goes_on(directory: Path, earlier: Path, steps: int, **made) -> Path:
    """A made-up run that began with the checkpoint that `earlier` is given here, of `steps` steps."""
    checkpoint = earlier / f"model_{steps}.safetensors"
    save_checkpoint(checkpoint, {"weights": torch.zeros(1)}, {"timesteps": steps, "of": str(earlier)})
    make_run(directory, **made)
    config = json.loads((directory / "config.json").read_text())
    config["args"] |= {"agent_file": str(checkpoint), "param_name": directory.name}
    (directory / "config.json").write_text(json.dumps(config))
    (directory / "manifest.json").write_text(json.dumps({"inputs": {"agent_file": file_id(checkpoint)}}))
    return directory


def lineage(folder: Path, seed: int = 0) -> list[Path]:
    """Three runs: b goes on from a at 10 of its 12 rows, c from b at 2 of its 4."""
    a = make_run(folder / "a", seed, 12)
    b = goes_on(folder / "b", a, 10 * 16384, seed=seed + 1, rows=4)
    return [a, b, goes_on(folder / "c", b, 2 * 16384, seed=seed + 2, rows=3)]


def test_a_continued_run_continues_the_line(tmp_path):
    a, b, c = map(load_run, lineage(tmp_path))
    (whole,) = join_runs([c, a, b])  # in any order
    returns = [run.columns["mean_episode_rewards"] for run in (a, b, c)]
    np.testing.assert_array_equal(whole.columns["timesteps"], 16384 * np.arange(1, 16))
    np.testing.assert_array_equal(
        whole.columns["mean_episode_rewards"], np.concatenate([returns[0][:10], returns[1][:2], returns[2]])
    )
    assert [part.dir.name for part in whole.parts()] == ["a", "b", "c"]
    assert whole.joints() == [
        10 * 16384,
        12 * 16384,
    ]
    assert a.columns["timesteps"][-1] == 12 * 16384, "what was joined is left as it was"


def test_a_run_from_an_unknown_checkpoint_is_not_joined(tmp_path):
    a, b, c = map(load_run, lineage(tmp_path))
    assert join_runs([a, c]) == [a, c]
    assert join_runs([b]) == [b]
    (tmp_path / "a" / f"model_{10 * 16384}.safetensors").write_bytes(b"another checkpoint of that name")
    assert [run.dir.name for run in join_runs([a, b, c])] == ["a", "c"]


def test_lineages_that_differ_in_their_seed_are_one_experiment(tmp_path):
    runs = join_runs([load_run(path) for seed in (0, 5) for path in lineage(tmp_path / str(seed), seed)])
    assert [len(group) for group in group_runs(runs)] == [2]
    other = join_runs([load_run(path) for path in lineage(tmp_path / "alone", 9)])
    assert len(group_runs([*other, load_run(make_run(tmp_path / "short"))])) == 2


def test_a_continuation_is_marked_and_named(tmp_path):
    for figure in (
        draw([whole], 0)
        for whole in join_runs(list(map(load_run, lineage(tmp_path))))
        for draw in (draw_returns, draw_columns)
    ):
        dotted = [
            line.get_xdata()[0]
            for line in figure.axes[0].lines
            if line.get_linestyle() == ":" and line.get_color() == REAL["color"]
        ]
        assert set(dotted) == {10 * 16384, 12 * 16384}
        caption = figure.get_supxlabel().replace("\n", " ").replace("\N{NO-BREAK SPACE}", " ")
        assert "After the dotted line: b (164k steps), c (197k steps)." in caption


def test_the_plot_joins_what_it_finds(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(
        plot_training_csv, "draw_returns", lambda runs, window: drawn.extend(runs) or new_figure()[0]
    )
    lineage(tmp_path / "runs")
    plot_training_csv.main(plot_training_csv.Args((tmp_path / "runs",), out_dir=tmp_path / "out"))
    assert [run.joints() for run in drawn] == [[10 * 16384, 12 * 16384]]


def test_a_parent_directory_stands_for_the_runs_below(tmp_path):
    runs = [make_run(tmp_path / name) for name in ("a/0", "a/1", "b")]
    assert find_runs([tmp_path]) == find_runs(runs) == runs


def test_a_log_from_elsewhere_with_fewer_columns_is_drawn(tmp_path):
    (tmp_path / "log.csv").write_text(
        "timesteps,mean_episode_rewards,mean_episode_len\n100,1.0,9\n200,2.0,8\n"
    )
    axes = draw_columns([load_run(tmp_path)], 0).axes
    assert [axis.get_title(loc="left") for axis in axes if axis.axison] == [
        "Return, training levels",
        "Episode length",
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no log.csv in"),
        (b"", "has no rows yet"),
        (",".join(COLUMNS).encode() + b"\n", "has no rows yet"),
        (b"name,age\nx,3\n", "not a training log: it has no column 'timesteps'"),
        (b"\xff\xfe\x00\x81\n", "is damaged .*can't decode"),
        (b"timesteps,mean_episode_rewards\n100,much\n", "damaged: column 'mean_episode_rewards'"),
        (b"timesteps,mean_episode_rewards\n200,1\n100,1\n", "steps go back"),
    ],
)
def test_bad_logs_end_in_one_clear_line(tmp_path, content, message):
    if content is not None:
        (tmp_path / "log.csv").write_bytes(content)
    with pytest.raises(SystemExit, match=f"error: .*{message}") as stopped:
        run_main(plot_training_csv.main, plot_training_csv.Args((tmp_path,)))
    assert stopped.value.code != 0
    assert not list(tmp_path.rglob("*.png"))


@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff"])
def test_a_damaged_config_is_named(tmp_path, content):
    (make_run(tmp_path / "run") / "config.json").write_bytes(content)
    with pytest.raises(UsageError, match="config.json is .*; remove it to draw the run without it") as caught:
        load_run(tmp_path / "run")
    assert "\n" not in str(caught.value)


def test_bad_flags(tmp_path):
    with pytest.raises(UsageError, match="not a directory"):
        find_runs([tmp_path / "nowhere"])
    with pytest.raises(UsageError, match="--smoothing"):
        plot_training_csv.main(plot_training_csv.Args((make_run(tmp_path / "run"),), smoothing=-1))


def test_steps_in_words():
    assert [steps_in_words(steps) for steps in (1_500_000, 20_000, 250, 3_014_656)] == [
        "1.5M",
        "20k",
        "250",
        "3.01M",
    ]
