"""Agents trained elsewhere: wrapped, checked, played, scored and converted."""

import pickle
import re
import shlex
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from stable_baselines3 import PPO
from torch import nn
from torch.nn import functional as F

import agents.check_policy
from agents.actor_critic import ActorCritic, NetworkConfig, load_agent, save_agent
from agents.check_policy import PolicyError, check_policy
from agents.convert import Args, convert, load_name_map, main
from agents.evaluate import evaluate, fixed_jobs
from agents.foreign import ForeignAgent
from agents.state_dicts import read_state_dict
from common.checkpoints import BadCheckpoint
from common.cli import run_main
from common.runs import UsageError
from envs.procgen import ProcgenConfig, ProcgenVecEnv
from rollouts.play import play

ROOT = Path(__file__).parents[2]
OBS_SHAPE = (64, 64, 3)


class Noise(gymnasium.Env):
    """Random pictures with CoinRun's spaces: all that an SB3 agent needs to be made and trained a little."""

    observation_space = gymnasium.spaces.Box(0, 255, (3, 64, 64), np.uint8)
    action_space = gymnasium.spaces.Discrete(15)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.observation_space.sample(), {}

    def step(self, action):
        return self.observation_space.sample(), float(action == 7), False, False, {}


@pytest.fixture(scope="module")
def sb3():
    policy = (
        PPO("CnnPolicy", Noise(), n_steps=32, batch_size=16, n_epochs=1, seed=0, device="cpu")
        .learn(32)
        .policy.eval()
    )
    run_right(policy.action_net)
    return policy


def run_right(head):
    """Biases a policy head so that CoinRun's episodes are short."""
    with torch.no_grad():
        head.bias[7:9] += 5


@pytest.fixture(scope="module")
def agent(sb3):
    def heads(features):
        policy, value = sb3.mlp_extractor(features)
        return sb3.action_net(policy), sb3.value_net(value)

    return ForeignAgent(15, sb3.features_dim, sb3.extract_features, heads, scale=255, network=sb3)


def test_sb3_logits_are_its_own(sb3, agent):
    frames = torch.randint(0, 256, (8, *OBS_SHAPE), dtype=torch.uint8)
    logits, value = agent.heads(
        agent.advance(frames, agent.initial_state(8), torch.ones(8, dtype=torch.bool), None)
    )
    theirs = frames.permute(0, 3, 1, 2)
    torch.testing.assert_close(
        torch.log_softmax(logits, -1), sb3.get_distribution(theirs).distribution.logits, atol=1e-5, rtol=0
    )
    torch.testing.assert_close(value, sb3.predict_values(theirs)[:, 0], atol=1e-5, rtol=0)
    assert check_policy(agent, OBS_SHAPE)[-1] == "choice"


def test_the_line_runs_on_it(agent):
    env = ProcgenVecEnv(3, ProcgenConfig("coinrun"))
    jobs = fixed_jobs(250, 3, 4)
    steps = list(play(env, agent, jobs, seed=0))
    ends = sum(step.ended.sum() for step in steps)
    scored = evaluate(agent, ProcgenVecEnv(2, ProcgenConfig("coinrun")), jobs, seed=0)
    assert ends == 4
    assert scored.length.sum() == sum(len(step.t) for step in steps)
    assert steps[0].hidden_after.shape == (3, agent.initial.shape[0])
    assert np.isfinite(steps[0].value).all()


class Recurrent(nn.Module):
    """A small recurrent network with switches that each break one promise."""

    def __init__(self, fault: str = ""):
        super().__init__()
        self.fault = fault
        self.calls = 0
        self.eyes = nn.Sequential(nn.Conv2d(3, 8, 8, 4), nn.ReLU(), nn.Flatten(), nn.Linear(1800, 16))
        self.memory = nn.GRUCell(16, 16)
        self.policy = nn.Linear(16, 6)

    def encode(self, images):
        features = self.eyes(images.detach() if self.fault == "detach" else images)
        if self.fault == "batch":
            features = features - features.mean(0)
        if self.fault == "dropout":
            features = F.dropout(features, 0.5)
        return features

    def heads(self, state):
        logits = self.policy(state)
        return logits[:, :5] if self.fault == "width" else logits, None


class NoReset(ForeignAgent):
    def advance(self, obs, state, first, reward):
        return super().advance(obs, state, torch.zeros_like(first), reward)


class BytesOnly(ForeignAgent):
    def images(self, obs):
        return super().images(obs) / (255 if obs.dtype == torch.uint8 else 1)


class LogProbElsewhere(ForeignAgent):
    def log_prob(self, logits, action):
        return super().log_prob(logits * 0.5, action)


def adapter(kind=ForeignAgent, fault=""):
    torch.manual_seed(0)
    network = Recurrent(fault)
    return kind(
        6, 16, network.encode, network.heads, network.memory, network=network, initial=torch.full((16,), 0.3)
    )


def test_a_good_policy_passes():
    assert len(check_policy(adapter(), OBS_SHAPE)) == 7


def test_a_checkpoint_is_checked_from_the_command_line(tmp_path, capsys):
    agent = ActorCritic(NetworkConfig(15, (32, 32, 3), feature_size=8, hidden_size=4, precision="fp32"))
    save_agent(tmp_path / "agent.safetensors", agent, {})
    agents.check_policy.main(agents.check_policy.Args(tmp_path / "agent.safetensors"))
    assert "keeps every promise: shapes, deterministic, first_resets" in capsys.readouterr().out
    with torch.no_grad():
        agent.policy_head.weight.fill_(3e38)
    save_agent(tmp_path / "agent.safetensors", agent, {})
    with pytest.raises(SystemExit, match="^error: .* not finite"):
        run_main(agents.check_policy.main, agents.check_policy.Args(tmp_path / "agent.safetensors"))


@pytest.mark.parametrize(
    ("kind", "fault", "message"),
    [
        (ForeignAgent, "width", "logits of heads.* must have shape"),
        (ForeignAgent, "dropout", "two calls"),
        (NoReset, "", "first=True must reset"),
        (ForeignAgent, "batch", "depend on the others"),
        (BytesOnly, "", "uint8 frames"),
        (ForeignAgent, "detach", "no gradient"),
        (LogProbElsewhere, "", "choose and log_prob disagree"),
    ],
)
def test_each_broken_promise_is_named(kind, fault, message):
    with pytest.raises(PolicyError, match=message):
        check_policy(adapter(kind, fault), OBS_SHAPE)


def test_the_adapters_options():
    frames = torch.randint(0, 256, (2, *OBS_SHAPE), dtype=torch.uint8)
    images = {}
    for layout in ("NCHW", "NHWC"):
        for scale in (1.0, 255.0):
            agent = ForeignAgent(6, 4, None, None, layout=layout, scale=scale)
            images[layout, scale] = agent.images(frames)
    assert images["NCHW", 1.0].shape == (2, 3, 64, 64)
    assert images["NHWC", 1.0].shape == (2, *OBS_SHAPE)
    torch.testing.assert_close(images["NHWC", 255.0], frames.float())
    torch.testing.assert_close(images["NCHW", 1.0], frames.permute(0, 3, 1, 2) / 255)
    assert ForeignAgent(6, 4, None, None, initial=torch.arange(4)).initial_state(2)[1].tolist() == [
        0,
        1,
        2,
        3,
    ]
    with pytest.raises(UsageError, match="layout"):
        ForeignAgent(6, 4, None, None, layout="CHWN")


class Residual(nn.Module):
    def __init__(self, names):
        super().__init__()
        self.names = names
        for name in names:
            self.add_module(name, nn.Conv2d(1, 1, 1))

    def forward(self, x):
        first, second = (getattr(self, name) for name in self.names)
        return x + second(F.relu(first(F.relu(x))))


class Stage(nn.Module):
    def __init__(self, before, after, blocks, convs):
        super().__init__()
        self.conv = nn.Conv2d(before, after, 3, padding=1)
        self.blocks = blocks
        for block in blocks:
            self.add_module(block, Residual(convs))
            for conv in convs:
                getattr(self, block).add_module(conv, nn.Conv2d(after, after, 3, padding=1))

    def forward(self, x):
        x = F.max_pool2d(self.conv(x), 3, 2, 1)
        for block in self.blocks:
            x = getattr(self, block)(x)
        return x


class TrainProcgenAgent(nn.Module):
    """The recurrent agent of train-procgen-pytorch, written from its description, under its names."""

    def __init__(self):
        super().__init__()
        widths = (3, 16, 32, 32)
        parts = (("res1", "res2"), ("conv1", "conv2"))
        stages = {f"block{i + 1}": Stage(widths[i], widths[i + 1], *parts) for i in range(3)}
        self.embedder = nn.ModuleDict(stages | {"fc": nn.Linear(2048, 64)})
        self.gru = nn.ModuleDict({"gru": nn.GRU(64, 32)})
        self.fc_policy = nn.Linear(32, 15)
        self.fc_value = nn.Linear(32, 1)
        self.init_hx = nn.Parameter(torch.randn(32))

    def forward(self, frames, h):
        x = frames.permute(0, 3, 1, 2) / 255
        for block in ("block1", "block2", "block3"):
            x = self.embedder[block](x)
        x = F.relu(self.embedder["fc"](F.relu(x).flatten(1)))
        h = self.gru["gru"](x[None], h[None])[0][0]
        return self.fc_policy(h), self.fc_value(h)[:, 0], h


class CleanAgent(nn.Module):
    """CleanRL's Procgen network, written from its description, under its names."""

    def __init__(self):
        super().__init__()
        widths = (3, 16, 32, 32)
        parts = (("res_block0", "res_block1"), ("conv0", "conv1"))
        stages = [Stage(widths[i], widths[i + 1], *parts) for i in range(3)]
        self.network = nn.Sequential(*stages, nn.Flatten(), nn.ReLU(), nn.Linear(2048, 256), nn.ReLU())
        self.actor = nn.Linear(256, 15)
        self.critic = nn.Linear(256, 1)

    def forward(self, frames):
        features = self.network(frames.permute(0, 3, 1, 2) / 255)
        return self.actor(features), self.critic(features)[:, 0], features


FRAMES = torch.randint(0, 256, (3, *OBS_SHAPE), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def converted_outputs(agent, state):
    after = agent.advance(FRAMES, state, torch.zeros(3, dtype=torch.bool), None)
    return *agent.heads(after), after


def test_train_procgen_weights_convert():
    torch.manual_seed(0)
    theirs = TrainProcgenAgent()
    h = torch.randn(3, 32)
    agent = convert(theirs.state_dict(), load_name_map("auto", theirs.state_dict()))
    assert (agent.config.core, agent.config.hidden_size, agent.config.feature_size) == ("gru", 32, 64)
    for ours, wanted in zip(converted_outputs(agent, h), theirs(FRAMES, h)):
        torch.testing.assert_close(ours, wanted, atol=1e-4, rtol=1e-4)


def test_cleanrl_weights_convert():
    torch.manual_seed(0)
    theirs = CleanAgent()
    agent = convert(theirs.state_dict(), load_name_map("auto", theirs.state_dict()))
    assert agent.config.core == "none"
    for ours, wanted in zip(converted_outputs(agent, agent.initial_state(3)), theirs(FRAMES)):
        torch.testing.assert_close(ours, wanted, atol=1e-4, rtol=1e-4)


def test_a_name_map_of_ones_own(tmp_path):
    ours = ActorCritic(
        NetworkConfig(
            15, feature_size=32, hidden_size=16, core="lstm", precision="fp32", normalize_features=True
        )
    )
    theirs = {name.replace("encoder.", "torso.", 1): tensor for name, tensor in ours.state_dict().items()} | {
        "extra": torch.zeros(1)
    }
    parts = "torso: encoder\ncore: core\npolicy_head: policy_head\nvalue_head: value_head\n"
    (tmp_path / "names.yaml").write_text(parts + "extra: null\n")
    agent = convert(theirs, load_name_map(str(tmp_path / "names.yaml"), theirs))
    assert agent.config == ours.config
    assert all(torch.equal(tensor, agent.state_dict()[name]) for name, tensor in ours.state_dict().items())
    (tmp_path / "short.yaml").write_text(parts)
    with pytest.raises(UsageError, match="nothing about extra"):
        convert(theirs, load_name_map(str(tmp_path / "short.yaml"), theirs))
    with pytest.raises(UsageError, match="no built-in name map fits"):
        load_name_map("auto", theirs)


def test_main_writes_what_evaluation_reads(tmp_path):
    torch.save(
        {"model_state_dict": TrainProcgenAgent().state_dict(), "optimizer_state_dict": {}}, tmp_path / "a.pth"
    )
    asked = dict(
        env_name="jumper", distribution_mode="hard", num_levels=7, start_level=3, use_backgrounds=True
    )
    main(Args(tmp_path / "a.pth", tmp_path / "a.safetensors", precision="bf16", **asked))
    agent, meta = load_agent(tmp_path / "a.safetensors")
    assert agent.config.precision == "bf16"
    assert meta["left_out"] == ["init_hx"]
    assert {name: meta["env"][name] for name in asked} == asked


class Bomb:
    def __reduce__(self):
        return exec, ("raise SystemExit('code ran')",)


def test_code_is_refused_and_damage_named(tmp_path):
    (tmp_path / "bomb.pth").write_bytes(pickle.dumps({"weight": Bomb()}))
    torch.save({"weight": Bomb()}, tmp_path / "bomb2.pth")
    for name in ("bomb.pth", "bomb2.pth"):
        with pytest.raises(BadCheckpoint, match="refused: it holds more than tensors"):
            read_state_dict(tmp_path / name)
    torch.save({"weights": {"a": torch.zeros(3)}}, tmp_path / "good.pth")
    assert read_state_dict(tmp_path / "good.pth", "weights")["a"].shape == (3,)
    with pytest.raises(BadCheckpoint, match="--key"):
        read_state_dict(tmp_path / "good.pth")
    (tmp_path / "cut.pth").write_bytes((tmp_path / "good.pth").read_bytes()[:-200])
    with pytest.raises(BadCheckpoint):
        read_state_dict(tmp_path / "cut.pth")


def saved(held, **how) -> Callable[[Path], None]:
    return lambda path: torch.save(held, path, **how)


def text(words: str | bytes) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(words if isinstance(words, bytes) else words.encode())


def zipped(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "no tensors")


def cut(path):
    torch.save(nn.Linear(2, 2).state_dict(), path)
    path.write_bytes(path.read_bytes()[:-100])


def flipped(path):
    """A weight of another value: torch.load would take it."""
    torch.save({"weight": torch.full((64,), 1.5)}, path)
    data = path.read_bytes()
    at = data.index(np.full(64, 1.5, np.float32).tobytes())
    path.write_bytes(data[: at + 3] + b"\x40" + data[at + 4 :])
    assert torch.load(path, weights_only=True)["weight"][0] != 1.5


def ours(path):
    save_agent(path, ActorCritic(NetworkConfig(15, feature_size=8, hidden_size=4)), {})


def cut_safetensors(path):
    ours(path)
    path.write_bytes(path.read_bytes()[:500])


RUBBISH = [
    (lambda path: None, "no file at"),
    (Path.mkdir, "no file at"),
    (text(""), "no file of PyTorch's"),
    (text("some words about weights"), "no file of PyTorch's"),
    (text(b"\x89PNG\r\n\x1a\n" + bytes(99)), "no file of PyTorch's"),
    (zipped, "an archive, but not one of torch.save"),
    (cut, "not a whole PyTorch file"),
    (flipped, "does not match its checksum"),
    (ours, "give it to --agent_file as it is"),
    (cut_safetensors, "not a whole safetensors file"),
    (lambda path: torch.jit.script(nn.Linear(2, 2)).save(path), "TorchScript program"),
    (saved(nn.Linear(2, 2)), "refused: it holds more than tensors"),
    (saved([torch.zeros(2)]), "holds no state dict; save model.state_dict"),
    (saved({}), "holds no state dict"),
    (saved({3: torch.zeros(2)}), "holds no state dict"),
    (saved({"ema": {"a": torch.zeros(2)}, "step": 3}), "with --key: ema$"),
    (saved({"a": 1}, _use_new_zipfile_serialization=False), "holds no state dict"),
]


@pytest.mark.parametrize(("make", "message"), RUBBISH)
def test_rubbish_is_called_what_it_is(tmp_path, make, message, recwarn):
    path = tmp_path / "theirs.pth"
    make(path)
    recwarn.clear()
    with pytest.raises(SystemExit, match=f"^error: .*{message}") as ended:
        run_main(main, Args(path, tmp_path / "agent.safetensors"))
    assert "\n" not in ended.value.code
    assert not (tmp_path / "agent.safetensors").exists()
    assert not len(recwarn)


@pytest.mark.parametrize("architecture", ["impala", "impala-half", "nature"])
def test_names_that_are_ours_already_convert(tmp_path, architecture):
    """A state dict of our own network, saved by torch or by safetensors, older format included."""
    agent = ActorCritic(
        NetworkConfig(
            15, architecture=architecture, feature_size=32, hidden_size=16, core="lstm", precision="fp32"
        )
    )
    tensors = {name: tensor.contiguous() for name, tensor in agent.state_dict().items()}
    torch.save(tensors, tmp_path / "new.pth")
    torch.save(tensors, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    save_file(tensors, tmp_path / "theirs.safetensors")
    for source in ("new.pth", "old.pth", "theirs.safetensors"):
        main(Args(tmp_path / source, tmp_path / "agent.safetensors"))
        found = load_agent(tmp_path / "agent.safetensors")[0]
        assert found.config == agent.config
        assert all(torch.equal(found.state_dict()[name], tensor) for name, tensor in tensors.items())


def reshaped(**shapes):
    tensors = ActorCritic(NetworkConfig(15, feature_size=32, hidden_size=16)).state_dict()
    return tensors | {name.replace("__", "."): torch.zeros(shape) for name, shape in shapes.items()}


MISFITS = [
    (reshaped(policy_head__weight=15), {}, "policy_head.weight must have two dimensions"),
    (reshaped(core__cell__weight_ih=(80, 32)), {}, "3 times as many would be a GRU"),
    (reshaped(policy_head__weight=(15, 0)), {}, "."),
    (reshaped(), {"obs_shape": (0, 64, 3)}, "."),
    (reshaped(), {"obs_shape": (48, 48, 3)}, "another architecture"),
    (reshaped(), {"precision": "fp8"}, "unknown 'fp8'"),
]


@pytest.mark.parametrize(("tensors", "options", "message"), MISFITS)
def test_tensors_that_make_no_network_are_named(tensors, options, message):
    with pytest.raises((UsageError, BadCheckpoint), match=message) as caught:
        convert(tensors, load_name_map("worldlens", tensors), **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"\xff\xfe\x00bad", b"{1: core}", b"- a\n- b", b"a: [1]", b"{"])
def test_a_name_map_that_is_none_is_named(tmp_path, content):
    (tmp_path / "names.yaml").write_bytes(content)
    with pytest.raises(UsageError, match="names.yaml (is damaged|must be a mapping)") as caught:
        load_name_map(str(tmp_path / "names.yaml"), {})
    assert "\n" not in str(caught.value)


def snippets(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / "docs" / page).read_text(), flags=re.DOTALL)


@pytest.mark.parametrize("page", ["your_agent.md", "add_an_environment.md"])
def test_every_python_snippet_of_the_page_runs(page):
    namespace = {"__name__": "snippet"}
    found = snippets(page, "python")
    assert found
    for snippet in found:
        exec(compile(snippet, page, "exec"), namespace)


def test_every_command_of_the_page_runs(tmp_path):
    theirs = TrainProcgenAgent()
    run_right(theirs.fc_policy)
    torch.save(theirs.state_dict(), tmp_path / "theirs.pth")
    for line in snippets("your_agent.md", "bash")[0].splitlines():
        words = [str(ROOT / "evaluate.py") if word == "evaluate.py" else word for word in shlex.split(line)]
        subprocess.run([sys.executable, *words[1:]], cwd=tmp_path, check=True, capture_output=True)
    assert load_agent(tmp_path / "theirs.safetensors")[1]["env"]["distribution_mode"] == "hard"
