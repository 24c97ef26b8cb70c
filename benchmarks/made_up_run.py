"""A run folder that nobody ran: as large as a real one of some hundred iterations, with the files that a run writes."""

import json
import math
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np

from siirl.config.environments import TRAINING, VALIDATION
from siirl.config.load import config_to_yaml, load_config
from siirl.config.schema import Config
from siirl.dag.compile import compile_plan
from siirl.dag.pipelines import build_graph
from siirl.data.trajectory import EpisodeSpec, EpisodeSummary
from siirl.observe.episodes import EpisodeLog, EpisodeRow
from siirl.observe.journal import Journal
from siirl.observe.metrics import MetricsLog, rollout_metrics, validation_metrics
from siirl.observe.step_log import StepLog
from siirl.observe.timeline import TIMELINE, Clock, Notebook, timeline_row
from siirl.training.checkpoint import CONFIG, PLAN

TASKS, TRIALS, MOST_STEPS, CHUNK = 10, 50, 220, 8
WORDS = ("bowl", "ramekin", "plate", "cabinet", "stove", "cookie box", "drawer", "mug", "moka pot", "basket")


class MadeUpRun:
    """Writes the folder.

    Args:
        folder: the run folder.
        steps: training steps.
        groups: prompts of a step, of ``n`` episodes each.
        tested: episodes of a validation, of which there is one every five steps.
        films: videos of each outcome.
        seed: of all that is drawn.
        speed: how fast it learns; about 1.
        imagined: whether it trains in a world model, which is more hopeful than what validates.
    """

    def __init__(
        self,
        folder: Path,
        steps: int,
        groups: int,
        n: int,
        tested: int,
        films: int,
        seed: int = 0,
        speed: float = 1.0,
        imagined: bool = False,
    ) -> None:
        self.folder, self.steps, self.groups, self.n = folder, steps, groups, n
        self.tested, self.films, self.speed, self.imagined = tested, films, speed, imagined
        self._random = np.random.default_rng(seed)
        self._hard = self._random.normal(0, 0.8, TASKS)

    def write(self) -> None:
        """Everything but checkpoints."""
        self.folder.mkdir(parents=True)
        config = self._config()
        (self.folder / CONFIG).write_text(config_to_yaml(config))
        plan = compile_plan(build_graph(config), config)
        (self.folder / PLAN).write_text(json.dumps(plan.as_dict()))
        metrics, episodes = MetricsLog(self.folder), EpisodeLog(self.folder, resume_step=0)
        timeline = StepLog(self.folder / TIMELINE)
        with Journal() as journal:
            journal.open(self.folder, ["--config-name=embodied_srpo_trainer", f"seed={self.speed}"], step=0)
            metrics.log(0, self._validate(0, episodes))
            for step in range(1, self.steps + 1):
                metrics.log(step, self._step(step, episodes))
                if step % 5 == 1:
                    timeline.append(self._timeline(step, len(plan.used_slots)))
        for log in (metrics, episodes, timeline):
            log.close()

    def _config(self) -> Config:
        where = [f"trainer.default_local_dir={self.folder}", f"trainer.total_training_steps={self.steps}"]
        cluster = ["trainer.nnodes=2", "trainer.n_gpus_per_node=4", "actor_rollout_ref.embodied.env.num_envs=4"]
        sizes = [f"data.train_batch_size={self.groups}", f"actor_rollout_ref.rollout.n={self.n}"]
        name = [f"trainer.experiment_name=made_up_{self.folder.name}"]
        env = ["env=opensora_libero_spatial"] if self.imagined else []
        return load_config("embodied_srpo_trainer", [*where, *cluster, *sizes, *name, *env])

    def _rate(self, step: int, task: int) -> float:
        return 1 / (1 + math.exp(1.2 - 4 * self.speed * step / self.steps + self._hard[task]))

    def _episode(self, step: int, group: int, index: int, task: int, env: str = TRAINING) -> EpisodeSummary:
        success = bool(self._random.random() < self._rate(step, task) * (1 if env == TRAINING else 0.7))
        steps = int(np.clip(self._random.normal(110, 25), 40, MOST_STEPS - 1)) if success else MOST_STEPS
        trial = int(self._random.integers(TRIALS))
        text = f"pick up the {WORDS[task]} and place it on the {WORDS[task - 1]}"
        seeds = group, group * 8 + index
        spec = EpisodeSpec("libero_spatial", task, trial, text, MOST_STEPS, group, index, *seeds, env)
        dropped = "nan_observation" if self._random.random() < 0.0003 else None
        won = success and dropped is None
        retries = int(self._random.random() < 0.0005)
        return EpisodeSummary(
            spec, won, steps, -(-steps // CHUNK), not success, step * 16, dropped, retries, steps / 40, step, float(won)
        )

    def _step(self, step: int, episodes: EpisodeLog) -> dict[str, float]:
        summaries, rewards = [], []
        dropped = {"low": 0, "high": 0}
        for group in range(self.groups):
            members = [self._episode(step, group, i, group % TASKS) for i in range(self.n)]
            accuracy = sum(s.success for s in members) / self.n
            kept = 0.1 <= accuracy <= 0.9
            dropped["low"] += accuracy < 0.1
            dropped["high"] += accuracy > 0.9
            for summary in members:
                near = 0.6 / (1 + math.exp(-10 * (0.5 - self._random.beta(2, 2))))
                reward = (1.0 if summary.success else near) if kept else None
                row = EpisodeRow.of(summary, step, "train", reward=reward, kept=kept)
                episodes.add(self._filmed(row) if step > self.steps - 3 else row)
                rewards += [reward] if reward is not None else []
            summaries += members
        found = rollout_metrics(summaries, rewards) | self._update(step) | self._times(step)
        found |= {f"filter/dropped_accuracy_{name}": float(count) for name, count in dropped.items() if count}
        found["filter/acceptance_rate"] = 1 - sum(dropped.values()) / self.groups
        return found | (self._validate(step, episodes) if step % 5 == 0 else {})

    def _validate(self, step: int, episodes: EpisodeLog) -> dict[str, float]:
        env = VALIDATION if self.imagined else TRAINING
        summaries = [self._episode(step, i, 0, i % TASKS, env) for i in range(self.tested)]
        for summary in summaries:
            row = EpisodeRow.of(summary, step, "val")
            episodes.add(self._filmed(row) if self.imagined and step > self.steps - 5 else row)
        return validation_metrics(summaries)

    def _update(self, step: int) -> dict[str, float]:
        noise = self._random.lognormal(0, 0.15, 6)
        names = ("loss", "entropy", "approx_kl", "clip_fraction", "grad_norm", "lr")
        sizes = (0.01, 3 - 2 * step / self.steps, 0.004, 0.02, 0.8, 5e-6 * (1 - step / 1000) / noise[5])
        skipped = {"actor/skipped_steps": float(self._random.random() < 0.01), "train/skipped_steps": 0.0}
        return {f"actor/{name}": float(size * by) for name, size, by in zip(names, sizes, noise, strict=True)} | skipped

    def _times(self, step: int) -> dict[str, float]:
        parts = {
            "rollout": 140 - 30 * step / self.steps,
            "reward": 0.4,
            "advantage": 0.01,
            "update": 38,
            "weight_sync": 2.1,
        }
        parts |= {"validation": 90.0} if step % 5 == 0 else {}
        parts |= {"checkpoint": 6.0} if step % 5 == 0 else {}
        found = {f"time/{name}": size * float(self._random.lognormal(0, 0.06)) for name, size in parts.items()}
        return found | {"time/step": sum(found.values()) * 1.001, "time/unaccounted": 0.001}

    def _timeline(self, step: int, slots: int) -> dict:
        ends = {"rollout": 130.0, "update": 168.0, "weight_sync": 170.0}
        driver = Notebook("driver")
        since = 0.0
        for name, end in ends.items():
            driver.note("driver", name, since, end)
            since = end
        books = [driver, *(self._slot(slot, ends) for slot in range(slots))]
        return timeline_row(step, 0.0, since, Clock.here(), [book.recording() for book in books])

    def _slot(self, slot: int, ends: dict[str, float]) -> Notebook:
        """Four simulators and a policy that acts on whatever is ready, then an update."""
        book = Notebook(f"slot {slot}")
        for number in range(4):
            for kind, start, end in self._simulator(ends["rollout"] * self._random.uniform(0.9, 1)):
                book.note(f"simulator {number}", kind, start, end)
            book.note(f"simulator {number}", "reset", ends["rollout"], ends["rollout"] + 4)
            book.note(f"simulator {number}", "weights", ends["rollout"] + 4, ends["weight_sync"])
        for start in np.arange(0, ends["rollout"], 0.5):
            book.note("policy", "policy", float(start), float(start) + self._random.uniform(0.25, 0.45))
        for start in np.arange(20, ends["rollout"], 17):
            book.note("embedding", "embed", float(start), float(start) + 5)
        book.note("actor", "update", ends["rollout"] + 0.5, ends["update"])
        book.note("weights", "sync", ends["update"], ends["weight_sync"])
        return book

    def _simulator(self, end: float) -> Iterator[tuple[str, float, float]]:
        now = 0.0
        while now < end:
            kinds = [
                ("reset", 1.0),
                *[("sim", 0.7), ("wait", 0.15), ("policy", 0.3)] * int(self._random.integers(12, 27)),
            ]
            for kind, mean in kinds:
                later = now + mean * float(self._random.uniform(0.6, 1.4))
                yield kind, now, later
                now = later

    def _filmed(self, row: EpisodeRow) -> EpisodeRow:
        made = len(list((self.folder / "videos").glob(f"{row.env}_*_{row.success}.mp4")))
        if made == self.films:
            return row
        name = f"videos/{row.env}_step_{row.step}_task_{row.task_id}_{made}_{row.success}.mp4"
        film(self.folder / name, row.success, row.chunks * 2, self._random)
        return EpisodeRow(**{**row.__dict__, "video": name})


def film(file: Path, success: bool, frames: int, random: np.random.Generator, side: int = 256) -> None:
    """An MP4 (H.264) of a disk on its way to a square that it reaches, or not."""
    file.parent.mkdir(exist_ok=True)
    goal, start = random.uniform(0.6, 0.8, 2) * side, random.uniform(0.1, 0.3, 2) * side
    reach = 1.0 if success else 0.6
    y, x = np.mgrid[:side, :side]
    ground = np.stack([120 + 30 * np.sin(x / 23), 110 + y / 6, 100 + 20 * np.cos(y / 31)], axis=-1).clip(0, 255)
    with av.open(str(file), "w") as container:
        stream = container.add_stream("h264", rate=10)
        stream.width = stream.height = side
        stream.pix_fmt = "yuv420p"
        for t in np.linspace(0, reach, frames):
            picture = ground.copy()
            picture[(abs(x - goal[0]) < 18) & (abs(y - goal[1]) < 18)] = (40, 120, 190)
            at = start + (goal - start) * t
            picture[(x - at[0]) ** 2 + (y - at[1]) ** 2 < 14**2] = (210, 90, 50)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture.astype(np.uint8), format="rgb24")))
        container.mux(stream.encode())
