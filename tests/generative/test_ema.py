"""The average of a model's weights: its formula, and that skipping settled weights changes no bit."""

import torch

from generative.training.ema import EMA


def model() -> torch.nn.Sequential:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Linear(4, 4))


def train(trained: torch.nn.Module, average: EMA, updates: range, skip_every: int = 0) -> list[int]:
    """Random steps of the second layer; the number of tensors that each update moves."""
    generator = torch.Generator().manual_seed(1)
    moving = []
    for update in updates:
        with torch.no_grad():
            for parameter in trained[1].parameters():
                parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
        average.update(update + 1)
        if skip_every and update % skip_every == 0:
            average.skip_settled(update + 1)
        moving.append(len(average._moving))
    return moving


def frozen_first_layer_that_moved() -> tuple[torch.nn.Module, EMA]:
    trained = model()
    average = EMA(trained, 0.8)
    with torch.no_grad():
        trained[0].weight += 1
    trained[0].requires_grad_(False)
    return trained, average


def test_average_follows_its_formula():
    trained, average = frozen_first_layer_that_moved()
    expected = {name: x.clone() for name, x in average.model.state_dict().items()}
    for update in range(1, 6):
        average.update(update)
        decay = min(0.8, (1 + update) / (10 + update))
        for name, x in trained.state_dict().items():
            expected[name] = decay * expected[name] + (1 - decay) * x
    for name, x in average.model.state_dict().items():
        torch.testing.assert_close(x, expected[name])


def test_skipping_settled_weights_changes_no_bit():
    found = []
    for skip_every in (0, 1):
        trained, average = frozen_first_layer_that_moved()
        moving = train(trained, average, range(200), skip_every)
        found.append(average.model.state_dict())
    assert moving[0] == 3  # the frozen bias had never moved
    assert moving[-1] == 2
    assert all(torch.equal(x, found[1][name]) for name, x in found[0].items())


def test_weights_that_are_trained_again_move_again():
    trained, average = frozen_first_layer_that_moved()
    train(trained, average, range(200), 1)
    trained.requires_grad_(True)
    average.skip_settled(201)
    with torch.no_grad():
        trained[0].bias += 1
    before = average.model[0].bias.clone()
    average.update(202)
    torch.testing.assert_close(average.model[0].bias, before.lerp(trained[0].bias, 0.2))
