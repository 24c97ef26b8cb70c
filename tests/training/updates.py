"""What the tests of the update share: a small policy, and episodes that it acted in."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from siirl.config.schema import Config
from siirl.data.trajectory import EpisodeSpec, EpisodeSummary, Target, Trajectory
from siirl.envs.base import EnvObs
from siirl.policies.base import ActionChunk, Evaluation, Policy, PolicyInputs, Sampling, stack_observations
from siirl.policies.gaussian import GaussianSettings, add_log_std, choose, gaussian_evaluation

torch.set_num_threads(1)  # these tensors are far too small to share

CHUNK, ACTION_DIM, BINS = 2, 3, 16
TOKENS = CHUNK * ACTION_DIM


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.linear = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.nn.functional.gelu(self.linear(self.norm(x)))


class Network(nn.Module):
    def __init__(self, width: int = 12) -> None:
        super().__init__()
        self.embed = nn.Linear(5, width)
        self.blocks = nn.ModuleList(Block(width) for _ in range(3))
        self.head = nn.Linear(width, TOKENS * BINS)
        self.unused = nn.Linear(
            width, width
        )  # like the last layer of a vision tower, of which the features are not taken

    def forward(self, features: Tensor) -> Tensor:
        x = self.embed(features)
        for block in self.blocks:
            x = block(x)
        return self.head(x).view(len(x), TOKENS, BINS)


class SmallPolicy:
    """A `Policy` of a few thousand weights that sees the mean colour, the state and the length of the instruction."""

    action_dim, chunk_len = ACTION_DIM, CHUNK

    def __init__(self, seed: int = 0) -> None:
        torch.manual_seed(seed)
        self.model = Network()

    def prepare(self, obs: EnvObs) -> PolicyInputs:
        colour = torch.from_numpy(obs.main_images).float().mean(dim=(1, 2)) / 255
        length = torch.tensor([[len(text) / 10] for text in obs.task_descriptions])
        return {"features": torch.cat([colour, torch.from_numpy(obs.states), length], dim=1)}

    def act(self, inputs: PolicyInputs, sampling: Sampling) -> ActionChunk:
        with torch.no_grad():
            logits = self.model(inputs["features"])
        generator = torch.Generator().manual_seed(sampling.seeds[0])
        probabilities = (logits / sampling.temperature).softmax(-1)
        sampled = torch.multinomial(probabilities.view(-1, BINS), 1, generator=generator).view(len(logits), TOKENS)
        with torch.no_grad():
            log_probs = self.evaluate(inputs, sampled, sampling.temperature).log_probs
        return ActionChunk(torch.zeros(len(logits), CHUNK, ACTION_DIM), sampled, log_probs)

    def evaluate(self, inputs: PolicyInputs, sampled: Tensor, temperature: float) -> Evaluation:
        log_softmax = (self.model(inputs["features"]) / temperature).log_softmax(-1)
        picked = log_softmax.gather(-1, sampled[..., None])[..., 0]
        return Evaluation(picked, -(log_softmax.exp() * log_softmax).sum(-1))

    def prompt_length(self, instruction: str) -> int:
        return len(instruction)

    def save(self, folder: str) -> None:
        raise AssertionError("the update saves no Hugging Face folder")


class Regressing(Network):
    """The same network with continuous actions, and a spread of each dimension."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(self.head.in_features, TOKENS)
        add_log_std(self, GaussianSettings(0.2, 0.05, 0.5, True), ACTION_DIM)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        x = self.embed(features)
        for block in self.blocks:
            x = block(x)
        return self.head(x).view(len(x), CHUNK, ACTION_DIM), self.action_noise()


class ContinuousPolicy(SmallPolicy):
    """Draws numbers from a Gaussian around what the network regresses."""

    def __init__(self, seed: int = 0) -> None:
        torch.manual_seed(seed)
        self.model = Regressing()

    @torch.no_grad()
    def act(self, inputs: PolicyInputs, sampling: Sampling) -> ActionChunk:
        mean, std = self.model(inputs["features"])
        sampled = choose(mean, std, sampling)
        log_probs = gaussian_evaluation(mean, std, sampled, sampling.temperature).log_probs
        return ActionChunk(sampled.view_as(mean), sampled, log_probs)

    def evaluate(self, inputs: PolicyInputs, sampled: Tensor, temperature: float) -> Evaluation:
        return gaussian_evaluation(*self.model(inputs["features"]), sampled, temperature)


def small_config(**actor: object) -> Config:
    """Mini-batches of 2 prompts × 2 episodes, micro-batches of 3 chunks, and a learning rate that moves the weights."""
    config = Config()
    config.actor_rollout_ref.rollout.n = 2
    config.actor_rollout_ref.actor.ppo_mini_batch_size = 2
    config.actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu = 3
    config.actor_rollout_ref.actor.optim.lr = 1e-2
    for key, value in actor.items():
        assert hasattr(config.actor_rollout_ref.actor, key)
        setattr(config.actor_rollout_ref.actor, key, value)
    return config


def play(
    policy: Policy, config: Config, chunks: Sequence[int], seed: int = 0, image_size: int = 4, state_dim: int = 1
) -> list[Trajectory]:
    """One episode for each number of ``chunks``: random observations, the policy's own draws, the last chunk cut short."""
    rng = np.random.default_rng(seed)
    return [_episode(policy, config, rng, i, count, image_size, state_dim) for i, count in enumerate(chunks)]


def _episode(
    policy: Policy, config: Config, rng: np.random.Generator, i: int, count: int, image_size: int, state_dim: int
) -> Trajectory:
    n = config.actor_rollout_ref.rollout.n
    instruction = "pick up the bowl" if i // n % 2 else "stack"
    spec = EpisodeSpec("suite", 0, i // n, instruction, 64, i // n, i % n, env_seed=i // n, action_seed=i)
    images = rng.integers(0, 256, (count + 1, 1, image_size, image_size, 3), dtype=np.uint8)
    states = rng.standard_normal((count + 1, state_dim)).astype(np.float32)
    executed = np.full(count, policy.chunk_len, np.int16)
    executed[-1] = rng.integers(1, policy.chunk_len + 1)
    inputs = policy.prepare(stack_observations(images[:-1], states[:-1], [instruction] * count))
    seeds = rng.integers(2**31, size=count).tolist()
    chunk = policy.act(inputs, Sampling(True, config.actor_rollout_ref.rollout.temperature, seeds))
    summary = EpisodeSummary(spec, bool(i % 2), int(executed.sum()), count, truncated=False, policy_version=0)
    rewards = np.zeros((count, policy.chunk_len), np.float32)
    rewards[-1, executed[-1] - 1] = i % 2
    values = None
    if chunk.values is not None:
        values = np.concatenate([chunk.values.numpy(), np.zeros((1, chunk.values.shape[1]), np.float32)])
    drawn = chunk.sampled.numpy()
    drawn = drawn if np.issubdtype(drawn.dtype, np.floating) else drawn.astype(np.int16)
    return Trajectory(summary, images, states, drawn, chunk.log_probs.numpy(), executed, rewards, values)


def targets(advantages: Sequence[float] | np.ndarray) -> list[Target]:
    """One advantage for each whole episode."""
    return [Target(np.float32(advantage) * np.ones((), np.float32)) for advantage in advantages]


def weights(policy: Policy) -> dict[str, Tensor]:
    """A copy of the policy's weights."""
    return {name: tensor.detach().clone() for name, tensor in policy.model.state_dict().items()}
