"""The world model's losses, stage by stage, against a slow loop and hand computations."""

import resource
from dataclasses import replace

import numpy as np
import pytest
import torch

from generative.model.config import STAGES, LossScales
from generative.model.world_model import WorldModel
from generative.simulator import freeze
from generative.training.losses import SCALE_OF, TERMS, TRAINED, loss_terms, total_loss
from generative.training.motion_data import SIDE, MotionBatch, MotionData
from generative.training.motion_loss import motion_terms
from generative.training.painter_loss import shown_before
from generative.training.start_loss import PLACE_OUTLIER, PLACE_WEIGHT, start_terms
from generative.training.teacher_forcing import draw_noise, read_windows, true_view
from tests.helpers.decision.toy_windows import (
    LENGTH,
    STEPS,
    K,
    agent,  # noqa: F401
    labelled,  # noqa: F401
    model,  # noqa: F401
    noise_for,
    segment,  # noqa: F401
    store,  # noqa: F401
)
from tests.helpers.slow_losses import SlowLosses, codes_around
from tests.helpers.toy_world import toy_config

START_TERMS = {"init_hidden", "init_action", "init_place", "bottleneck", "codes", "pose", "recon"}
OUTCOME_TERMS = {"reward", "done", "uncalibrated_done"}
STEP_TERMS = OUTCOME_TERMS | {"motion", "motion_error", "pose"}
TILE_TERMS = {"codes", "kl_balanced", "kl"}
EXPECTED = {
    "painter": {"recon"},
    "latent": START_TERMS,
    "motion": STEP_TERMS,
    "tiles": TILE_TERMS,
    "joint": OUTCOME_TERMS | TILE_TERMS,
}
WITH_LABELS = {"phase", "tile_types"}
NOT_OF_ACTIONS = START_TERMS | WITH_LABELS


@pytest.fixture
def stage_model():
    """A model that reads phases and stays near the true place for some steps."""
    torch.manual_seed(1)
    model = WorldModel(toy_config(knows_phase=True))
    torch.nn.init.normal_(model.outcome_head.out.weight, std=0.3)
    torch.nn.init.normal_(model.done_calibration, std=0.1)
    model.start_head.player_head[-1].weight.data *= 0.2
    for layer in (
        model.motion_head.other_layer,
        model.motion_head.flight,
        model.outcome_head.other_layer,
    ):
        layer.weight.data *= 3  # actions matter
    model.motion_head.choice[-1].bias.data.view(2, -1)[:, 0] += 1  # flights are chosen
    model.motion_head.contact_phase.data.mul_(0.6).add_(0.2)  # no contact at an edge
    return model


@pytest.fixture
def windows(request):
    """Windows with or without labels."""
    return request.getfixturevalue(request.param)


def code_noise(windows) -> torch.Tensor:
    shape = windows.mask.shape[1], SIDE, SIDE, toy_config().code_size
    return torch.randn(shape, generator=torch.Generator().manual_seed(5))


def motion_batch(model, windows) -> MotionBatch:
    """What the motion stage sees of windows, encoded frame by frame."""
    view = true_view(model, windows)
    encoded = model.encode_frames(windows.obs, view.position)
    none = torch.zeros(SIDE, SIDE, model.config.code_size)
    shape = windows.mask.shape
    codes = torch.zeros(*shape, SIDE, SIDE, model.config.code_size)
    for t, b in np.ndindex(*shape):
        one = type(encoded)(*(part[t, b : b + 1] for part in encoded))
        at = view.position[t, b : b + 1]
        codes[t, b] = codes_around(model, one, at, at, none, SIDE)[0, ..., :-1]
    weight = windows.extra.get("weight", torch.ones(shape[1]))
    outcomes = windows.action, windows.reward, windows.terminated
    return MotionBatch(codes, encoded.pose, view.position, *outcomes, windows.mask, weight)


def stage_terms(stage, model, windows, noise, agent, free_running=0.5):
    """The terms of any stage."""
    if stage != "motion":
        return loss_terms(stage, model, windows, noise, agent)
    with torch.no_grad():
        batch = motion_batch(model, windows)
    return motion_terms(model, batch, free_running, code_noise(windows))


both = pytest.mark.parametrize("windows", ["segment", "labelled"], indirect=True)


@both
@pytest.mark.parametrize("stage", STAGES)
def test_every_term_equals_a_slow_loop_and_shifted_actions_do_not(stage, stage_model, windows, agent):
    stage_model.requires_grad_(False)
    noise = noise_for(stage_model, windows)
    given = stage_model, windows, noise, agent
    fast = stage_terms(stage, *given)
    slow, mutant = (SlowLosses(*given, shift=shift) for shift in (0, 1))
    slow.code_noise = mutant.code_noise = code_noise(windows)
    slow, mutant = slow.terms(stage), mutant.terms(stage)
    labels = "position" in windows.extra and stage == "painter"
    assert fast.keys() == EXPECTED[stage] | (WITH_LABELS if labels else set())
    assert fast.keys() == slow.keys()
    assert slow.keys() <= set(TERMS)
    for name, term in fast.items():
        assert term.item() == pytest.approx(slow[name].item(), rel=1e-3, abs=1e-4), name
        if stage not in ("painter", "latent") and name not in NOT_OF_ACTIONS - {"codes", "pose"}:
            assert abs(mutant[name] - slow[name]) > 10 * abs(term - slow[name]), name


@pytest.mark.parametrize("stage", STAGES)
def test_what_lies_after_an_end_changes_no_term_and_the_last_step_changes_all(
    stage, stage_model, labelled, agent
):
    stage_model.requires_grad_(False)
    noise = noise_for(stage_model, labelled)
    fields = ("obs", "action", "reward", "terminated")
    last = labelled.mask & ~torch.cat([labelled.mask[1:], torch.zeros_like(labelled.mask[:1])])

    def terms(where):
        changed = {name: getattr(labelled, name).clone() for name in fields}
        extra = {name: x.clone() for name, x in labelled.extra.items()}
        changed["obs"][where] = 77
        changed["action"][where] = (changed["action"][where] + 1) % 5
        changed["reward"][where] = 3.0
        changed["terminated"][where] ^= True
        extra["position"][where] += 0.7
        extra["tiles"][where] = 1
        return stage_terms(stage, stage_model, replace(labelled, **changed, extra=extra), noise, agent)

    plain = terms(torch.zeros_like(labelled.mask))
    after_end = terms(~labelled.mask)
    at_last = terms(last)
    for name, term in plain.items():
        torch.testing.assert_close(after_end[name], term, rtol=1e-5, atol=1e-6, msg=name)
    if stage not in ("painter", "latent"):  # these need not look at the last step
        changed = {name for name, term in plain.items() if (at_last[name] - term).abs() > 1e-4}
        assert changed >= plain.keys() - START_TERMS


def test_an_action_that_ends_an_episode_has_an_outcome_though_no_frame_follows(model, store, agent):
    windows = store.windows(LENGTH, min_steps=K)
    length = store.episodes["length"][windows.table[:, 0]] - windows.table[:, 1]
    last = np.flatnonzero((length == K) & (store.episodes["end"][windows.table[:, 0]] == "terminated"))[:8]
    segment = windows.batch(last)  # the first simulated frame is the episode's last, and its action ends it
    for stage in ("motion", "joint"):
        terms = stage_terms(stage, model, segment, noise_for(model, segment), agent)
        if stage == "joint":  # every target in these windows is an end: the logit is pulled up
            gradient = torch.autograd.grad(terms["uncalibrated_done"], model.outcome_head.out.bias)[0][-1]
            assert gradient < -0.1
        assert terms["reward"] > 0
        assert terms.get("kl", 0) == 0


@both
def test_each_stage_trains_its_own_parts_and_all_of_them(windows, agent):
    torch.manual_seed(1)
    model = WorldModel(toy_config(knows_phase=True))
    torch.nn.init.normal_(model.outcome_head.out.weight)
    freeze(agent)
    for stage in STAGES:
        for name, parameter in model.named_parameters():
            parameter.grad = None
            parameter.requires_grad_(name.startswith(TRAINED[stage]))
        noise = noise_for(model, windows)
        total_loss(stage_terms(stage, model, windows, noise, agent), LossScales()).backward()
        with_gradient = {n for n, p in model.named_parameters() if p.grad is not None and p.grad.any()}
        trained = {n for n, _ in model.named_parameters() if n.startswith(TRAINED[stage])}
        idle = trained - with_gradient
        # phases and kinds of tiles are taught by labels, in the first stage alone
        taught = stage != "painter" or "position" in windows.extra
        assert all(not taught and n.startswith(("phase_head", "tile_types")) for n in idle), (stage, idle)
        assert with_gradient <= trained
    assert all(p.grad is None for p in agent.parameters())


@pytest.mark.parametrize("stage", STAGES)
def test_every_scale_changes_the_loss_of_the_stages_that_have_its_terms(stage, stage_model, labelled, agent):
    stage_model.requires_grad_(False)
    noise = noise_for(stage_model, labelled)
    terms = stage_terms(stage, stage_model, labelled, noise, agent)
    base = total_loss(terms, LossScales())
    for flag in vars(LossScales()):
        more = total_loss(terms, replace(LossScales(), **{flag: 2 * getattr(LossScales(), flag)}))
        own = sum(getattr(LossScales(), flag) * terms[name] for name in terms if SCALE_OF.get(name) == flag)
        torch.testing.assert_close(more - base, torch.as_tensor(float(own)), rtol=1e-3, atol=1e-3)
        assert (more != base) == any(SCALE_OF.get(name) == flag for name in terms)


def test_each_scale_weights_its_term_and_nothing_else():
    terms = {name: torch.tensor(float(i + 1)) for i, name in enumerate(TERMS)}
    flags = set(SCALE_OF.values())
    assert flags == set(vars(LossScales()))
    assert len(flags) == 10
    for flag in flags:
        scales = LossScales(**dict.fromkeys(flags, 0.0) | {flag: 3.0})
        expected = 3 * sum(terms[name] for name, by in SCALE_OF.items() if by == flag)
        assert total_loss(terms, scales) == expected


def test_labels_are_targets_alone(stage_model, labelled, segment, agent):
    """Without labels their terms are absent; the kinds of tiles change their own term and no other."""
    stage_model.requires_grad_(False)
    noise = noise_for(stage_model, labelled)
    plain = stage_terms("painter", stage_model, segment, noise, agent)
    assert not WITH_LABELS & plain.keys()
    whole = stage_terms("painter", stage_model, labelled, noise, agent)
    other = {"tiles": (labelled.extra["tiles"] + 1) % 10}
    changed = stage_terms(
        "painter", stage_model, replace(labelled, extra=labelled.extra | other), noise, agent
    )
    assert {name for name in whole if not torch.equal(whole[name], changed[name])} == {"tile_types"}
    blind = WorldModel(toy_config()).requires_grad_(False)  # a game whose phase no label tells
    assert "phase" not in stage_terms("painter", blind, labelled, noise, agent)


def test_a_painter_that_knows_the_tiles_has_no_error(stage_model, segment, agent, monkeypatch):
    """Planted: grey frames, grey textures and a sprite that does not show."""
    model = stage_model.requires_grad_(False)
    grey = replace(segment, obs=torch.full_like(segment.obs, 51))
    for part in (model.painter.texture, model.painter.sprite):
        part[-1].weight.zero_()
        part[-1].bias.fill_(0.2 - 0.5)
    model.painter.sprite[-1].bias.view(-1, 4)[:, 3] = -100
    for stage in ("painter", "latent"):
        terms = stage_terms(stage, model, grey, noise_for(model, grey), agent)
        assert terms["recon"] < 1e-9, stage
    model.painter.texture[-1].bias.add_(0.1)
    terms = stage_terms("latent", model, grey, noise_for(model, grey), agent)
    assert terms["recon"].item() == pytest.approx(0.01 * 8 * 8 * 3, rel=1e-4)


def test_a_start_that_knows_the_state_has_no_error_of_place_codes_and_pose(stage_model, labelled, agent):
    model = stage_model.requires_grad_(False)
    view = true_view(model, labelled)
    recording = read_windows(model, labelled, agent, None, view)
    codes = model.codes_in_view(recording.canvases[K - 1], view.position[K - 1])
    env = recording.start.env
    shape = codes.shape[1:3]
    canvas = env.canvas.clone()
    canvas[:, : shape[0], : shape[1], :-1] = codes
    perfect = env._replace(
        canvas=canvas,
        position=view.position[K - 1],
        motion=view.motion[K - 2],
        pose=recording.encoded.pose[K - 1],
    )

    def terms(state):
        changed = recording._replace(start=recording.start._replace(env=state))
        return start_terms(model, labelled, changed, view)

    found = terms(perfect)
    assert not found["codes"]
    assert not found["pose"]
    assert not found["init_place"]
    near = terms(perfect._replace(position=perfect.position + PLACE_OUTLIER / 2))
    assert near["init_place"].item() == pytest.approx(PLACE_WEIGHT * (PLACE_OUTLIER / 2) ** 2, rel=1e-3)
    far = terms(perfect._replace(position=perfect.position + 4))  # linear, not squared
    huber = PLACE_OUTLIER * (4 - PLACE_OUTLIER / 2)
    assert far["init_place"].item() == pytest.approx(PLACE_WEIGHT * 2 * huber, rel=1e-3)
    tile_further = view._replace(phase=view.phase - 1)
    moved = recording._replace(start=recording.start._replace(env=perfect))
    assert start_terms(model, labelled, moved, tile_further)["init_place"] < 1e-9


def test_what_was_shown_before_is_what_a_loop_over_pixels_finds():
    rng = torch.Generator().manual_seed(0)
    earlier = 8 * torch.rand(3, 4, 2, generator=rng)
    earlier[0, 0] = 4.5  # half a pixel past
    later = torch.full((4, 2), 4.0)
    found = shown_before(earlier, later, (6, 7, 3))
    for b, row, column in np.ndindex(*found.shape):
        place = later[b] + torch.tensor([row, column]) + 0.5
        inside = [(place >= p).all() and (place < p + torch.tensor([6, 7])).all() for p in earlier[:, b]]
        assert found[b, row, column] == any(inside), (b, row, column)
    assert 0 < found.float().mean() < 1
    assert shown_before(later[None], later, (6, 7, 3)).all()


@both
def test_frames_lie_where_labels_or_registration_say(windows, model):
    view = true_view(model, windows)
    tile = model.config.tile_pixels
    moved = view.position[:-1] - view.position[1:]
    torch.testing.assert_close(view.motion, moved, atol=1e-4, rtol=0)
    origin = view.position[K - 1] / tile
    assert ((origin > -1e-3) & (origin < 1)).all()
    whole = view.position / tile - view.phase
    torch.testing.assert_close(whole, torch.round(whole), atol=1e-4, rtol=0)
    assert ((view.phase > -2e-3) & (view.phase < 1)).all()
    for b in range(windows.mask.shape[1]):
        n = int(windows.mask[:, b].sum())
        if "position" in windows.extra:
            true = windows.extra["position"][:n, b]
            torch.testing.assert_close(view.motion[: n - 1, b], (true[:-1] - true[1:]).float())
            offset = (true - view.position[:n, b]) / tile
            torch.testing.assert_close(offset, torch.round(offset), atol=1e-5, rtol=0)
        else:
            alone = model.locate(windows.obs[:n, b : b + 1]).motion[:, 0]
            torch.testing.assert_close(view.motion[: n - 1, b], alone, atol=1e-4, rtol=0)
        assert not view.motion[n - 1 :, b].any()  # after the end it stays
        assert torch.equal(view.position[n - 1 :, b], view.position[n - 1 : n, b].expand(LENGTH - n + 1, 2))


def test_free_running_windows_go_on_from_their_own_motion(stage_model, labelled, agent):
    """A push at every step adds up in those that run freely, and in no others."""
    stage_model.requires_grad_(False)

    def error(fraction, push):
        head = stage_model.motion_head
        for layer in (head.flight, head.choice[-1]):
            layer.weight.zero_()
            layer.bias.zero_()
        head.flight.bias.view(2, -1)[:, -2:] = push
        head.choice[-1].bias.view(2, -1)[:, 0] = 100  # the first outcome, always
        terms = stage_terms("motion", stage_model, labelled, None, agent, free_running=fraction)
        return terms["motion_error"].item()

    assert error(0.0, 0.3) != pytest.approx(error(1.0, 0.3), rel=0.02)
    half = error(0.5, 0.3)
    assert min(error(0.0, 0.3), error(1.0, 0.3)) < half < max(error(0.0, 0.3), error(1.0, 0.3))


class _Labels:
    """Positions of all steps of a store that holds one shard."""

    def __init__(self, store, position):
        self.store_id, self.fields, self.position = store.id, {}, position

    def rows(self, shard, name, rows):
        assert (shard, name) == (0, "position")
        return self.position[rows]


@pytest.mark.parametrize("with_labels", [False, True])
def test_surroundings_encoded_once_are_those_of_each_window(store, tmp_path, with_labels):
    torch.manual_seed(1)
    model = WorldModel(toy_config(knows_phase=True)).requires_grad_(False)
    windows = store.windows(LENGTH, min_steps=K)
    position = 30 + np.cumsum(np.random.default_rng(0).uniform(-1, 1, (store.num_steps, 2)), 0)
    windows.labels = _Labels(store, position) if with_labels else None
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))  # as on a full disk; a mapped file would crash
    try:
        with pytest.raises(OSError, match="File too large"):
            MotionData(model, windows, tmp_path / "full.bin", torch.device("cpu"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    data = MotionData(model, windows, tmp_path / "data.bin", torch.device("cpu"))
    short = np.flatnonzero(store.episodes["length"][windows.table[:, 0]] - windows.table[:, 1] == K)[:3]
    chosen = np.concatenate([short, [0, 5, 40]])
    segment = windows.batch(chosen)
    if with_labels:
        first = store.episodes["offset"][segment.episode] + segment.start.numpy()
        rows = np.minimum(first + np.arange(LENGTH)[:, None], store.num_steps - 1)
        segment.extra["position"] = torch.from_numpy(position[rows])
    weight = torch.rand(len(chosen))
    found = data.batch(windows.table[chosen], LENGTH, weight)
    expected = motion_batch(model, segment)
    mask = segment.mask
    assert torch.equal(found.mask, mask)
    assert torch.equal(found.weight, weight)
    for name in ("action", "reward", "terminated"):
        assert torch.equal(getattr(found, name)[mask], getattr(expected, name)[mask]), name
    torch.testing.assert_close(found.pose[mask], expected.pose[mask], atol=0.005, rtol=0)
    if with_labels:  # without, windows and whole episodes have phases of their own
        torch.testing.assert_close(found.codes[mask], expected.codes[mask], atol=0.005, rtol=0)
    apart = (found.position - expected.position)[:, :, None].diff(dim=0)[mask[1:]]
    torch.testing.assert_close(apart, torch.zeros_like(apart), atol=2e-3, rtol=0)
    assert ((found.position[0] > -0.01) & (found.position[0] < 2)).all()
    model.encoder.code_head.weight.zero_()  # it is read from the file, not encoded again
    again = MotionData(model, windows, tmp_path / "data.bin", torch.device("cpu"))
    assert torch.equal(again.batch(windows.table[chosen], LENGTH, weight).codes, found.codes)


def test_noise_is_drawn_in_a_fixed_order_and_windows_of_it_are_slices(model):
    def draw(seed):
        return draw_noise(model.config, STEPS, 5, torch.Generator().manual_seed(seed))

    assert all(torch.equal(a, b) for a, b in zip(draw(0), draw(0)))
    assert not any(torch.equal(a, b) for a, b in zip(draw(0), draw(1)))
    part = draw(0).windows(slice(1, 5, 2))
    assert torch.equal(part.z, draw(0).z[1::2])
    assert torch.equal(part.tiles, draw(0).tiles[:, 1::2])
    assert part.codes.shape[1] == part.times.shape[1] == 2
    alone = draw_noise(model.config, STEPS, 5, torch.Generator().manual_seed(0), ("tiles", "z"))
    assert torch.equal(alone.tiles, draw(0).tiles)
    assert torch.equal(alone.windows(slice(2)).z, draw(0).z[:2])
    assert alone.codes is alone.times is None
    many = draw_noise(model.config, 2, 2000, torch.Generator().manual_seed(0))
    assert abs(many.tiles.mean() - 0.5772) < 0.02  # Euler's constant: Gumbel noise
    assert abs(many.z.std() - 1) < 0.02
