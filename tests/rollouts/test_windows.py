"""Windows equal slices of episodes for every anchor and padding."""

import numpy as np
import pytest
import torch

from rollouts.segment import Segment
from rollouts.windows import Windows, window_table
from tests.helpers.made_store import NOOP, WIDTH, make_store

LENGTHS = ([3, 1, 45], [2, 12, 7])
KINDS = [("start", "right"), ("start", "none"), ("end", "left"), ("end", "none")]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("windows") / "store", *LENGTHS)


def brute_table(lengths, length, anchor, pad, min_steps):
    rows = []
    for episode, total in enumerate(lengths):
        for t in range(total):
            start = t if anchor == "start" else t + 1 - length
            steps = sum(0 <= s < total for s in range(start, start + length))
            if steps >= (length if pad == "none" else min_steps):
                rows.append((episode, start))
    return rows


@pytest.mark.parametrize(("anchor", "pad"), KINDS)
@pytest.mark.parametrize(("length", "min_steps"), [(1, 1), (4, 1), (4, 3), (7, 7), (50, 1)])
def test_table_lists_every_window(anchor, pad, length, min_steps):
    lengths = np.array(sum(LENGTHS, []))
    expected = brute_table(lengths, length, anchor, pad, min_steps)
    assert list(map(tuple, window_table(lengths, length, anchor, pad, min_steps).tolist())) == expected


def brute_window(store, episode, start, length):
    """One window by a loop over its steps."""
    steps = store.episode(episode)
    total = int(store.episodes["length"][episode])
    rows = {name: [] for name in (*store.step_fields, "first", "mask")}
    for s in range(start, start + length):
        inside = 0 <= s < total
        for name, field in store.step_fields.items():
            empty = np.full(field.shape, NOOP if name == "action" else 0, field.dtype)
            rows[name].append(steps[name][s] if inside else empty)
        rows["mask"].append(inside)
        rows["first"].append(inside and s == 0)
    s = start + length
    zero = np.zeros(WIDTH, np.float32)
    rows["hidden"] = [
        steps["hidden"][s] if 0 <= s <= total else zero for s in range(start, start + length + 1)
    ]
    return {name: np.array(values) for name, values in rows.items()}


def differences(store, windows: Windows, segment: Segment, indices) -> set[str]:
    """The fields in which a batch differs from windows cut one by one."""
    found = set()
    for b, (episode, start) in enumerate(windows.table[indices]):
        for name, expected in brute_window(store, episode, start, windows.length).items():
            tensor = segment.extra[name] if name in segment.extra else getattr(segment, name)
            if not np.array_equal(tensor[:, b].numpy(), expected):
                found.add(name)
        if (segment.episode[b], segment.start[b]) != (episode, start):
            found.add("place")
        for name in ("latent", "source_step"):
            if not np.array_equal(segment.extra[name][b].numpy(), store.episodes[name][episode]):
                found.add(name)
    return found


@pytest.mark.parametrize(("anchor", "pad"), KINDS)
@pytest.mark.parametrize("length", [1, 6])
def test_batches_are_brute_force_slices(store, anchor, pad, length):
    windows = store.windows(length, anchor, pad)
    indices = np.random.default_rng(0).permutation(len(windows))
    assert differences(store, windows, windows.batch(indices), indices) == set()


def test_padding_may_stand_on_both_sides(store):
    windows = Windows(store, 10, [(1, -4), (3, -9), (0, 3), (4, -5)])
    indices = np.arange(4)
    assert differences(store, windows, windows.batch(indices), indices) == set()


def shift_first(segment):
    segment.first = segment.first.roll(1, 0)


def shift_mask(segment):
    segment.mask = segment.mask.roll(1, 0)


def hidden_after_for_before(segment):
    segment.hidden = torch.cat([segment.hidden[1:], segment.hidden[:1]])


def no_final_hidden(segment):
    segment.hidden[:-1][~segment.mask] = 0


def pad_with_zero(segment):
    segment.action[~segment.mask] = 0


@pytest.mark.parametrize(
    ("mutate", "field"),
    [
        (shift_first, "first"),
        (shift_mask, "mask"),
        (pad_with_zero, "action"),
        (hidden_after_for_before, "hidden"),
        (no_final_hidden, "hidden"),
    ],
)
def test_the_comparison_sees_mutants(store, mutate, field):
    windows = store.windows(6, "start", "right")
    segment = windows.batch(np.arange(len(windows)))
    mutate(segment)
    assert differences(store, windows, segment, np.arange(len(windows))) == {field}


def test_off_by_one_tables_are_seen(store):
    right = store.windows(6, "start", "right")
    wrong = store.windows(6, "start", "right")
    wrong.table[:, 1] += 1
    assert "obs" in differences(store, right, wrong.batch([0, 5]), [0, 5])


def test_ends_stand_at_the_last_step(store):
    windows = store.windows(60, "start", "right")
    segment = windows.batch(store.first_step)
    # each shard's episodes end terminated, truncated, cut
    assert segment.terminated.sum(0).tolist() == [
        1,
        0,
        0,
        1,
        0,
        0,
    ]
    assert segment.truncated.sum(0).tolist() == [0, 1, 0, 0, 1, 0]
    ended = segment.terminated | segment.truncated
    assert (segment.mask & ended == ended).all()
    assert not (segment.mask[1:] & ended[:-1]).any()


def test_types(store):
    segment = store.windows(6).batch([0, 1])
    assert segment.obs.dtype == torch.uint8
    assert segment.action.dtype == torch.int64
    assert segment.mask.dtype == torch.bool
    assert segment.hidden.shape == (7, 2, WIDTH)
    assert segment.hidden_after().shape == (6, 2, WIDTH)
    assert segment.logits.shape == (6, 2, 5)


def test_one_read_per_field_and_shard(store, monkeypatch):
    from rollouts.shard import Shard

    calls = []
    rows = Shard.rows
    monkeypatch.setattr(
        Shard, "rows", lambda self, name, wanted: calls.append((id(self), name)) or rows(self, name, wanted)
    )
    windows = store.windows(6)
    windows.batch(np.arange(len(windows)))
    assert len(calls) == len(set(calls)) == 2 * len(store.step_fields)


def test_samples_depend_on_the_generator_alone(store):
    windows = store.windows(6)
    draws = [windows.sample(np.random.default_rng(seed), 16) for seed in (0, 0, 1)]
    assert torch.equal(draws[0].obs, draws[1].obs)
    assert not torch.equal(draws[0].obs, draws[2].obs)
    assert windows.sample(np.random.default_rng(0), 5).obs.shape[:2] == (6, 5)


def test_samples_are_uniform_over_windows(store):
    windows = store.windows(6)
    segment = windows.sample(np.random.default_rng(0), 7000)
    share = np.bincount(segment.episode.numpy(), minlength=len(store)) / 7000
    np.testing.assert_allclose(share, store.episodes["length"] / store.num_steps, atol=0.03)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (dict(anchor="start", pad="left"), "anchor 'start' with pad 'left'"),
        (dict(anchor="middle"), "anchor 'middle'"),
        (dict(pad="zeros"), "pad 'zeros'"),
        (dict(min_steps=7), "from 1 to the window's 6"),
        (dict(min_steps=0), "from 1 to the window's 6"),
    ],
)
def test_nonsense_is_refused(store, asked, message):
    with pytest.raises(ValueError, match=message):
        store.windows(6, **asked)


def test_no_windows_no_sample(store):
    windows = store.windows(100, pad="none")
    assert len(windows) == 0
    with pytest.raises(ValueError, match="no windows of 100 steps"):
        windows.sample(np.random.default_rng(0), 4)
