"""Hazards in CoinRun states: all are found, and removing one removes only that one, so that the agent can
pass.
"""

import numpy as np
import pytest

from envs.coinrun import ENEMY, LAVAS, SAW
from envs.edits import Hazard, delete, hazards, next_hazard
from envs.layouts import first_states
from envs.procgen import ProcgenConfig, ProcgenVecEnv, Snapshot
from envs.procgen_body import parse, serialize

LEVELS = range(3000, 3128)
RIGHT = 7


@pytest.fixture(scope="module")
def env():
    env = ProcgenVecEnv(16, ProcgenConfig(), num_threads=0)
    yield env
    env.close()


@pytest.fixture(scope="module")
def opening(env):
    return list(first_states(env, LEVELS))


def test_every_saw_and_enemy_and_all_lava_belongs_to_one_hazard(opening):
    kinds = set()
    for state in opening:
        found = hazards(state)
        for kind, type_ in (("saw", SAW), ("enemy", ENEMY)):
            assert sum(h.kind == kind for h in found) == (state.entities["type"] == type_).sum()
        columns = np.isin(state.grid, LAVAS).any(0)
        covered = np.zeros(len(columns), int)
        for h in found:
            if h.kind == "lava":
                covered[int(h.left) : int(h.right)] += 1
        assert np.array_equal(covered, columns)
        kinds |= {h.kind for h in found}
    assert kinds == {"saw", "enemy", "lava"}


def test_deleting_takes_away_one_thing_and_nothing_else(opening):
    for kind in ("saw", "enemy", "lava"):
        state = next(s for s in opening if any(h.kind == kind for h in hazards(s)))
        target = [h for h in hazards(state) if h.kind == kind][-1]
        after = parse(delete(state, target).data)
        left = hazards(after)
        assert len(left) == len(hazards(state)) - 1
        assert not any(h.left == target.left and h.kind == kind for h in left)
        changed = np.nonzero((after.grid != state.grid).any(0))[0]
        if kind == "lava":
            assert len(after.entities) == len(state.entities)
            assert changed.min() == target.left
            assert changed.max() == target.right - 1
        else:
            assert len(changed) == 0
            assert len(after.entities) == len(state.entities) - 1
        assert after.player["x"] == state.player["x"]
        assert after.header == state.header


def test_a_hazard_is_found_again_after_it_moved(env, opening):
    index = next(i for i, s in enumerate(opening) if sum(h.kind == "enemy" for h in hazards(s)) >= 2)
    env.open_level(0, LEVELS[index])
    target = [h for h in hazards(parse(env.snapshot([0])[0].data)) if h.kind == "enemy"][1]
    for _ in range(6):
        env.act(np.full(16, env.noop))
    now = parse(env.snapshot([0])[0].data)
    there = [h for h in hazards(now) if h.kind == "enemy"]
    assert there[1].left != target.left
    left = [h.left for h in hazards(parse(delete(now, target).data)) if h.kind == "enemy"]
    assert left == [h.left for i, h in enumerate(there) if i != 1]


def test_a_missing_hazard_is_refused(opening):
    state = next(s for s in opening if not hazards(s))
    with pytest.raises(ValueError, match="no saw number 0"):
        delete(state, Hazard("saw", 0, 3.0, 4.0, 1.5))


def lone_saw(opening):
    """A level whose only hazard is a saw, and the saw."""
    state = next(s for s in opening if [h.kind for h in hazards(s)] == ["saw"])
    return parse(serialize(state)), hazards(state)[0]


def test_the_next_hazard_is_the_one_within_the_window(opening):
    state, saw = lone_saw(opening)
    for distance, expected in ((1.9, None), (2.1, saw), (5.9, saw), (6.1, None), (-2.0, None)):
        state.player["x"], state.player["y"] = saw.left - distance, saw.y
        assert next_hazard(state) == expected
    state.player["x"] = saw.left - 4
    for height, expected in ((5.9, saw), (-5.9, saw), (6.1, None), (-6.1, None)):
        state.player["y"] = saw.y + height
        assert next_hazard(state) == expected


def test_the_next_hazard_is_the_closest_of_several(opening):
    state = next(s for s in opening if sum(h.kind == "enemy" for h in hazards(s)) >= 2)
    near, far = sorted((h for h in hazards(state) if h.kind == "enemy"), key=lambda h: h.left)[:2]
    state = parse(serialize(state))
    state.player["x"], state.player["y"] = near.left - 2.5, near.y
    found = next_hazard(state, 2.0, far.left - near.left + 3)
    assert found.left == min(h.left for h in hazards(state) if h.left >= state.player["x"] + 2)


def test_who_walks_into_a_saw_dies_there_and_not_where_it_was_deleted(env, opening):
    state, saw = lone_saw(opening)
    state.player["x"], state.player["y"] = saw.left - 1.5, saw.y + 0.1
    env.restore([Snapshot(serialize(state)), delete(state, saw)], [0, 1])
    died = np.zeros(2, bool)
    for _ in range(12):
        env.act(np.full(16, RIGHT))
        died |= env.observe()[2][:2] & ~env.info()["level_complete"][:2]
    assert died.tolist() == [True, False]
