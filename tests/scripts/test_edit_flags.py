"""Recording under edits: in the simulator and in the real game, flag by flag, with its control arm."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import record
import record_gen_samples
import record_informinit_gen_samples
from agents.actor_critic import load_agent
from common.cli import parse
from common.runs import UsageError, file_id
from interpret.directions.directions import Directions, load_directions, save_directions
from interpret.interventions.flags import EditFlags
from interpret.interventions.from_flags import load_interventions
from rollouts.check import check_store
from rollouts.store import Rollouts
from tests.helpers.edit_sets import oblique, orthogonal
from tests.helpers.toy_simulator import save_toy_files
from tests.scripts.test_record import make_agent

pytestmark = pytest.mark.usefixtures("float32")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Toy files with two files of directions, and an agent of the real game with one of its own."""
    path = tmp_path_factory.mktemp("made")
    save_toy_files(path)
    agent_id = file_id(path / "agent.safetensors")
    for name, directions in (("pca", orthogonal()), ("probes", oblique())):
        save_directions(path / f"{name}.safetensors", directions.with_provenance(agent=agent_id))
    make_agent(path / "real.safetensors", seed=0)
    real = orthogonal().with_provenance(agent=file_id(path / "real.safetensors"))
    save_directions(path / "real_pca.safetensors", real)
    return path


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def simulated(made, words: str, script=record_gen_samples) -> Rollouts:
    """Records 10 simulated samples with further words of a command line."""
    common = f"--world_model_file {made}/model.safetensors --agent_file {made}/agent.safetensors "
    common += f"--data_dir {made}/store --num_samples 10 --num_sim_steps 6 --batch_size 4 --device cpu "
    args = parse(script.Args, "", (common + "--log_level 40 " + words).split())
    script.main(args)
    return Rollouts.open(args.out_dir or Path("results/simulated/edited"))


def real(made, words: str, name: str) -> Rollouts:
    """Records 3 episodes of the real game."""
    common = f"--agent_file {made}/real.safetensors --env_name dodgeball --num_episodes 3 --num_envs 3 "
    common += f"--episodes_per_shard 2 --num_threads 1 --device cpu --log_level 40 --exp_name {name} "
    record.main(parse(record.Args, "", (common + words).split()))
    return Rollouts.open(Path("data") / name)


SWAP = "--swap_directions_from 1 0 --swap_directions_to 2 None"


def test_the_documented_command_records_swapped_directions(made):
    words = f"{SWAP} --direction_files {made}/pca.safetensors"
    store = simulated(
        made,
        f"{words} --data_save_dir=generative/recorded_validations_swapping",
        record_informinit_gen_samples,
    )
    assert store.path == Path("generative/recorded_validations_swapping")
    directions = load_directions(made / "pca.safetensors")
    agent, _ = load_agent(made / "agent.safetensors")
    for i in range(len(store)):
        episode = store.episode(i)
        before, after = (torch.from_numpy(x) for x in (episode["hidden"][:-1], episode["hidden"][1:]))
        first = torch.zeros(len(before), dtype=torch.bool)
        with torch.no_grad():
            free = agent.advance(torch.from_numpy(episode["obs"]), before, first, None)
        read = directions.read.float()
        moved, would = (after - before) @ read.T, (free - before) @ read.T
        wanted = torch.stack([0 * would[:, 0], 0 * would[:, 1], would[:, 2] + would[:, 1], would[:, 3]], 1)
        torch.testing.assert_close(moved, wanted, atol=1e-3, rtol=1e-3)
        with torch.no_grad():
            torch.testing.assert_close(
                agent.heads(after)[0], torch.from_numpy(episode["logits"]), atol=1e-4, rtol=1e-4
            )


def test_the_informed_script_is_record_gen_samples_without_random_starts(made):
    one = simulated(made, "--out_dir one", record_informinit_gen_samples)
    other = simulated(made, "--out_dir other")
    assert one.id == other.id
    with pytest.raises(SystemExit):
        simulated(made, "--rand_init", record_informinit_gen_samples)


def test_a_store_names_the_edits_that_it_was_made_under(made):
    store = simulated(made, f"{SWAP} --direction_files {made}/pca.safetensors")
    entry = store.manifest["interventions"]
    directions = load_directions(made / "pca.safetensors")
    assert entry["edits"] == [
        {"kind": "replace", "directions": [1, 0], "to": [2, None], "direction_set": directions.id}
    ]
    agent_id = file_id(made / "agent.safetensors")
    assert set(store.episodes["policy_id"]) == {f"{agent_id}+{entry['id']}"}
    plain = simulated(made, "--out_dir plain")
    assert "interventions" not in plain.manifest
    assert set(plain.episodes["policy_id"]) == {agent_id}
    again = {"edits": entry["edits"]}
    Path("edits.json").write_text(json.dumps(again))
    repeated = simulated(made, f"--edits edits.json --direction_files {made}/pca.safetensors --out_dir again")
    assert repeated.id == store.id


@pytest.mark.parametrize(
    "change",
    [
        "--swap_directions_from 3 0",
        "--swap_directions_to None None",
        "--swap_directions_to 3 None",
        "--edit_mode state",
        "--edit_site after_heads",
        "--edit_steps 2 4",
        "--direction_kind probes",
        "--edits {made}/more.json",
    ],
)
def test_every_flag_changes_states_and_actions(made, change):
    (made / "more.json").write_text(
        json.dumps({"edits": [{"kind": "add", "directions": [2], "values": [3], "direction_set": "probes"}]})
    )
    words = f"{SWAP} --direction_kind pca --direction_files {made}/pca.safetensors {made}/probes.safetensors"
    base = simulated(made, f"{words} --out_dir base")
    other = simulated(made, f"{words} {change.format(made=made)} --out_dir other")
    for name in ("hidden", "logits"):
        assert other.steps(name).tolist() != base.steps(name).tolist(), name
    assert other.manifest["interventions"]["id"] != base.manifest["interventions"]["id"]


def test_without_flags_the_real_recording_is_the_plain_one_and_edits_are_paired_with_it(made):
    plain = real(made, "", "plain")
    edited = real(made, f"{SWAP} --direction_files {made}/real_pca.safetensors", "edited")
    neutral = "--swap_directions_from 1 --swap_directions_to 1"
    control = real(made, f"{neutral} --direction_files {made}/real_pca.safetensors", "control")
    assert list(check_store(edited)) == []
    for store in (control, edited):
        for name in ("level_seed", "repeat"):
            np.testing.assert_array_equal(store.episodes[name], plain.episodes[name])
    for i in range(len(plain)):
        first, same, other = (store.episode(i) for store in (plain, control, edited))
        for name in ("obs", "action", "hidden", "logits", "value", "reward", "log_prob"):
            np.testing.assert_array_equal(first[name], same[name], err_msg=name)
        np.testing.assert_array_equal(first["obs"][0], other["obs"][0])
        assert not np.array_equal(first["hidden"][1], other["hidden"][1])
    directions = load_directions(made / "real_pca.safetensors")
    scores = directions.scores(
        torch.from_numpy(np.stack([edited.episode(i)["hidden"][:3] for i in range(3)]))
    )
    start = directions.scores(torch.zeros(8))
    torch.testing.assert_close(scores[..., :2], start[:2].expand(len(edited), 3, 2), atol=1e-5, rtol=1e-5)


def test_edited_actions_use_the_noise_of_the_plain_recording(made):
    """From the same logits the same action: an edit after the heads leaves the first action as it was."""
    words = f"{SWAP} --direction_files {made}/real_pca.safetensors --edit_site after_heads"
    plain, edited = real(made, "", "plain"), real(made, words, "edited")
    first = [[store.episode(i)["action"][0] for i in range(3)] for store in (plain, edited)]
    assert first[0] == first[1]
    assert any(plain.episode(i)["action"].tolist() != edited.episode(i)["action"].tolist() for i in range(3))


def test_behaviours_act_on_edited_states(made):
    words = f"{SWAP} --direction_files {made}/real_pca.safetensors --behaviour greedy"
    store = real(made, words, "greedy")
    assert (store.steps("logits").argmax(1) == store.steps("action")).all()
    assert store.manifest["core_parts"] == {"h": [0, 8]}
    assert "+" in store.manifest["policies"][0]


def flags(**values) -> EditFlags:
    return EditFlags(**values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (dict(swap_directions_from=("1", "2"), swap_directions_to=("0",)), "has 2 directions and"),
        (dict(swap_directions_from=("1",)), "give as many"),
        (dict(swap_directions_from=("None",), swap_directions_to=("1",)), "None stands on the other side"),
        (dict(swap_directions_from=("one",), swap_directions_to=("1",)), "takes numbers"),
        (dict(swap_directions_from=("1",), swap_directions_to=("-1",)), "takes numbers"),
        (dict(swap_directions_from=("1", "1"), swap_directions_to=("0", "2")), "twice"),
        (dict(swap_directions_from=("1",), swap_directions_to=("77",)), "no direction 77"),
        (dict(swap_directions_from=("1",), swap_directions_to=("2",), edit_steps=(4, 4)), "holds no step"),
        (
            dict(swap_directions_from=("1",), swap_directions_to=("2",), direction_kind="ica"),
            "no directions 'ica'",
        ),
        (dict(direction_files=(Path("x"),)), "--direction_files has no effect"),
        (dict(edit_mode="state"), "--edit_mode has no effect"),
        (dict(edit_site="after_heads"), "--edit_site has no effect"),
        (dict(edit_steps=(0, 1)), "--edit_steps has no effect"),
        (dict(direction_kind="pca"), "--direction_kind has no effect"),
    ],
    ids=str,
)
def test_flags_that_make_no_sense_are_refused(made, values, message):
    agent, _ = load_agent(made / "agent.safetensors")
    files = {"direction_files": (made / "pca.safetensors",)} if "swap_directions_from" in values else {}
    with pytest.raises(UsageError, match=message):
        load_interventions(flags(**(files | values)), agent, file_id(made / "agent.safetensors"))


def test_swaps_need_directions_of_this_agent(made):
    agent, _ = load_agent(made / "agent.safetensors")
    swap = dict(swap_directions_from=("1",), swap_directions_to=("2",))
    with pytest.raises(UsageError, match="--direction_files"):
        load_interventions(flags(**swap), agent, "x")
    with pytest.raises(UsageError, match="was fit on agent"):
        load_interventions(flags(**swap, direction_files=(made / "pca.safetensors",)), agent, "x")
    with pytest.raises(UsageError, match="give --agent_file"):
        load_interventions(flags(**swap, direction_files=(made / "pca.safetensors",)), None, "none")


def test_a_mixture_and_random_play_take_no_edits(made):
    words = f"{SWAP} --direction_files {made}/real_pca.safetensors"
    args = parse(
        record.Args,
        "",
        f"--behaviour mixture --mixture_files {made}/real.safetensors --env_name dodgeball {words}".split(),
    )
    with pytest.raises(UsageError, match="give --agent_file"):
        record.main(args)


def test_a_patch_takes_scores_of_a_recorded_episode(made):
    agent, _ = load_agent(made / "agent.safetensors")
    store = Rollouts.open(made / "store")
    edit = {"kind": "patch", "directions": [1], "source": str(made / "store"), "episode": 2, "mode": "state"}
    Path("patch.json").write_text(json.dumps({"edits": [edit]}))
    given = flags(edits=Path("patch.json"), direction_files=(made / "pca.safetensors",))
    bound = load_interventions(given, agent, file_id(made / "agent.safetensors"))
    assert bound.edits[0].source == store.id
    patched = simulated(made, f"--edits patch.json --direction_files {made}/pca.safetensors")
    directions: Directions = load_directions(made / "pca.safetensors")
    source, found = (
        directions.scores(torch.from_numpy(x["hidden"][1:]))[:, 1]
        for x in (store.episode(2), patched.episode(0))
    )
    steps = min(len(source), len(found))
    torch.testing.assert_close(found[:steps], source[:steps], atol=2e-5, rtol=1e-5)
    Path("patch.json").write_text(json.dumps({"edits": [edit | {"episode": 99}]}))
    with pytest.raises(UsageError, match="no episode 99"):
        load_interventions(given, agent, file_id(made / "agent.safetensors"))
