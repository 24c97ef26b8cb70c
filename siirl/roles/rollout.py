"""The rollout role: waiting episodes flow through simulator slots, and the policy acts on whatever is ready.

Two promises hold by construction: a slot is never idle while episodes are waiting, and neither a simulator nor a
policy step is spent on a finished episode.
"""

import math
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from siirl.data.trajectory import CANCELLED, Trajectory
from siirl.envs.base import StepResult
from siirl.observe.timeline import Notebook
from siirl.policies.base import ActionChunk, Policy, PolicyInputs, Sampling, stack_observations
from siirl.roles.queue import EpisodeSource
from siirl.roles.running import Run, RunningEpisode, Weights
from siirl.roles.slots import Died, EnvPool, Ready, Slots

MAX_RETRIES = 3
"""Times that an episode is started again because its simulator died, before the run ends with the simulator's error."""

GATED_POLL = 0.02
"""Seconds between looks at simulators that still reset while the policy waits for weights."""


class Rollout:
    """Runs episodes with a policy in a pool of simulator slots.

    `run` belongs to one thread at a time; `release` and `cancel` may be called from any.

    Args:
        policy: acts on batches of observations.
        pool: the simulator slots.
        pipeline_stage_num: policy batches that the slots are split into: at most slots / stages rows each. While the policy acts
            on one, the other slots simulate.
        deterministic: act on one row at a time, so that numerics cannot depend on which rows are ready together.
        name: of this rollout among those that share a queue.
        notebook: is told what the policy does, in the lane ``policy``, and what `Slots` tells of each slot.
        num_executed: of the actions that the policy decides on, how many are executed, the first ones, before it decides anew
            (receding horizon); None: all.

    Attributes:
        lock: held during `Policy.act`; who changes the weights from another thread holds it meanwhile.
    """

    def __init__(
        self,
        policy: Policy,
        pool: EnvPool,
        pipeline_stage_num: int = 1,
        deterministic: bool = False,
        name: str = "rollout",
        notebook: Notebook | None = None,
        num_executed: int | None = None,
    ) -> None:
        assert num_executed is None or 1 <= num_executed <= policy.chunk_len
        self.policy = policy
        self.num_executed = num_executed
        self.name = name
        together = max(
            Counter(pool.envs).values()
        )  # slots of one environment run at a time, or more where they are mixed
        self.max_batch = 1 if deterministic else math.ceil(together / pipeline_stage_num)
        self.lock = threading.Lock()
        self._notebook = notebook or Notebook(name)
        self._slots = Slots(pool, self._notebook)
        self._seconds_acting = 0.0
        self._news = threading.Condition()
        self._weights: Weights | None = None
        self._current: Run | None = None

    def release(self, step: int, version: int) -> None:
        """The weights of training step ``step`` are in place, after ``version`` optimizer steps.

        Episodes that start to act from now on carry both numbers. Call it while still holding `lock` after a change of weights,
        so that nothing acts between the two.
        """
        with self._news:
            self._weights = Weights(step, version)
            self._news.notify_all()

    def cancel(self) -> None:
        """Let the current `run`, if any, take no more episodes, see the answers under way, and end."""
        with self._news:
            if self._current is not None:
                self._current.cancelled = True
                self._news.notify_all()

    def run(
        self, queue: EpisodeSource, sampling: Sampling, after: int, bootstrap: str | None = None
    ) -> Iterator[Trajectory]:
        """Run episodes until nothing waits; yields each trajectory as soon as its episode ends, in order of completion.

        Simulators reset at once; the policy acts from when step ``after`` or a later one was released. The seeds of ``sampling``
        are not looked at: an episode brings its own. After `cancel` unfinished episodes come as trajectories with the drop reason
        ``cancelled``. A policy with a value head also values the last observation of episodes that ``bootstrap`` names, as
        ``algorithm.bootstrap_type`` does; None: of none.

        Raises:
            RuntimeError: the simulator of one episode died more than `MAX_RETRIES` times.
        """
        run = Run(queue, sampling, after, bootstrap)
        with self._news:
            self._current = run
        try:
            self._forget_answers()
            for slot in range(self._slots.num_slots):
                self._start_next(run, slot)
            while run.running and not run.cancelled:
                yield from self._handle(run, self._events(run))
                if run.ready and not run.gated:
                    yield from self._act(run)
            yield from self._give_up(run)
            self._slots.rest()
        finally:
            with self._news:
                self._current = None

    def stats(self) -> dict[str, float]:
        """Counters since the start: seconds that the policy acted, and what `Slots` counted. While episodes wait,
        ``busy_slot_seconds_while_waiting`` / ``slot_seconds_while_waiting`` is the simulators' utilisation."""
        return {
            "seconds_acting": self._seconds_acting,
            "busy_slot_seconds": self._slots.busy_slot_seconds,
            "slot_seconds_while_waiting": self._slots.slot_seconds_while_waiting,
            "busy_slot_seconds_while_waiting": self._slots.busy_slot_seconds_while_waiting,
        }

    def _forget_answers(self) -> None:
        """See what a run that nobody listened to any more left under way."""
        while self._slots.under_way:
            answers = self._slots.wait(block=True)
            assert answers, "a pool that was asked answers"

    def _start_next(self, run: Run, slot: int) -> None:
        """Hand the next waiting episode, if any, to a free slot."""
        if run.cancelled:
            return
        spec = run.queue.take(f"{self.name}/{slot}", self._slots.held.get(slot), self._slots.envs[slot])
        if spec is None:
            return
        if not run.gated:
            self._slots.episodes_waited()
        run.running[slot] = RunningEpisode(spec, self.policy.chunk_len)
        self._slots.reset(slot, spec)

    def _events(self, run: Run) -> Sequence[Ready | Died]:
        """What the simulators answered; waits while there is nothing else to do, at a closed gate for its opening as well."""
        if run.gated and self._may_act(run):
            self._open(run)
        if not run.gated:
            return self._slots.wait(block=not run.ready)
        events = self._slots.wait(block=False) if self._slots.under_way else []
        if not events:
            patience = GATED_POLL if self._slots.under_way else None
            with self._news:
                self._news.wait_for(lambda: run.cancelled or self._may_act(run), patience)
        return events

    def _may_act(self, run: Run) -> bool:
        """Whether the weights that the run waits for, or newer ones, are in place."""
        return self._weights is not None and self._weights.step >= run.after

    def _open(self, run: Run) -> None:
        run.gated = False
        self._slots.watch()
        self._slots.got_weights(list(run.running))
        for episode in run.running.values():
            episode.skip_wait()

    def _handle(self, run: Run, events: Sequence[Ready | Died]) -> Iterator[Trajectory]:
        """Take note of answers, and start new episodes where one ended."""
        for event in events:
            if isinstance(event, Died):
                self._restart(run, event)
            else:
                yield from self._observe(run, event)
        yield from self._value_last(run)

    def _restart(self, run: Run, event: Died) -> None:
        """Run the lost episode, if there was one in the slot, again from its spec."""
        if event.slot not in run.running or run.cancelled:
            return
        if event.slot in run.ready:
            run.ready.remove(event.slot)
        spec = run.running.pop(event.slot).spec
        run.retries[spec] += 1
        if run.retries[spec] > MAX_RETRIES:
            times = run.retries[spec]
            raise RuntimeError(f"the simulator of {spec.prompt_id} died {times} times; the last time: {event.cause}")
        run.queue.put_back(spec)
        self._start_next(run, event.slot)

    def _observe(self, run: Run, event: Ready) -> Iterator[Trajectory]:
        """Record what a slot returned; the trajectory if that ended the episode, else the slot becomes ready."""
        episode, result = run.running[event.slot], event.result
        success = ended = False
        reason = None
        if isinstance(result, StepResult):
            episode.step(result)
            success = bool(result.success[0])
            ended = success or bool(result.terminated[0]) or bool(result.truncated[0])
            reason = None if np.isfinite(result.rewards).all() else "nan_reward"
        else:
            episode.observe(result)
        if not np.isfinite(episode.states[-1]).all():
            reason = "nan_observation"
        if ended or reason:
            yield from self._end(run, event.slot, success and reason is None, reason)
        else:
            run.ready.append(event.slot)

    def _act(self, run: Run) -> Iterator[Trajectory]:
        """Let the policy act on up to `max_batch` ready slots; an episode whose actions or log-probs are not finite ends here."""
        slots = [run.ready.popleft() for _ in range(min(len(run.ready), self.max_batch))]
        episodes = [run.running[slot] for slot in slots]
        chunk, weights = self._decide(slots, episodes, run.sampling)
        for row, (slot, episode) in enumerate(zip(slots, episodes, strict=True)):
            actions, log_probs = chunk.actions[row].numpy(), chunk.log_probs[row].numpy()
            values = None if chunk.values is None else chunk.values[row].numpy()
            episode.act(actions, chunk.sampled[row].numpy(), log_probs, values, weights)
            if not np.isfinite(actions).all() or not np.isfinite(log_probs).all():
                yield from self._end(run, slot, False, "nan_action")
            elif values is not None and not np.isfinite(values).all():
                yield from self._end(run, slot, False, "nan_value")
            else:
                self._slots.step(slot, actions[: self.num_executed])

    def _decide(
        self, slots: Sequence[int], episodes: Sequence[RunningEpisode], sampling: Sampling
    ) -> tuple[ActionChunk, Weights]:
        """One chunk per episode, and which weights drew it."""
        began = time.monotonic()
        inputs = self._prepare(episodes)
        seeds = replace(sampling, seeds=[e.action_seed() for e in episodes])
        prepared = time.monotonic()
        with self.lock:
            locked, weights = time.monotonic(), self._weights
            assert weights is not None, "the gate is open"
            chunk = self.policy.act(inputs, seeds)
        ended = time.monotonic()
        self._seconds_acting += ended - locked + prepared - began
        self._notebook.note("policy", "policy", began, prepared, len(slots))
        self._notebook.note("policy", "policy", locked, ended, len(slots))
        self._slots.acted(slots, began, ended)
        return chunk, weights

    def _prepare(self, episodes: Sequence[RunningEpisode]) -> PolicyInputs:
        """The last observations of episodes."""
        obs = stack_observations(
            np.stack([e.images[-1] for e in episodes]),
            np.stack([e.states[-1] for e in episodes]),
            [e.spec.instruction for e in episodes],
        )
        return self.policy.prepare(obs)

    def _end(self, run: Run, slot: int, success: bool, drop_reason: str | None) -> Iterator[Trajectory]:
        """End the episode in ``slot``, which goes on with another one at once."""
        episode = run.running.pop(slot)
        self._start_next(run, slot)
        goes_on = run.bootstrap == "always" or (run.bootstrap == "standard" and episode.truncated)
        if goes_on and drop_reason is None and episode.values:
            run.unvalued.append((episode, success))
        else:
            yield self._finish(run, episode, success, drop_reason)

    def _value_last(self, run: Run) -> Iterator[Trajectory]:
        """Give the episodes that just ended the value of their last observation, for what would have come, up to `max_batch` of
        them in a forward; without one they are dropped."""
        while ended := run.unvalued[: self.max_batch]:
            del run.unvalued[: self.max_batch]
            began = time.monotonic()
            inputs = self._prepare([episode for episode, _ in ended])
            with self.lock:
                values = self.policy.value(inputs).cpu().numpy()
            now = time.monotonic()
            self._seconds_acting += now - began
            self._notebook.note("policy", "policy", began, now, len(ended))
            for (episode, success), value in zip(ended, values, strict=True):
                episode.values.append(value)
                dropped = None if np.isfinite(value).all() else "nan_value"
                yield self._finish(run, episode, success, dropped)

    def _finish(self, run: Run, episode: RunningEpisode, success: bool, drop_reason: str | None) -> Trajectory:
        """The trajectory of an episode that ended."""
        weights = self._weights or Weights(step=-1, version=0)  # cancelled before there were any
        return episode.finish(success, weights, run.retries[episode.spec], drop_reason)

    def _give_up(self, run: Run) -> Iterator[Trajectory]:
        """End what runs after a cancel. An episode that its last answer finished is as good as any."""
        while self._slots.under_way:
            yield from self._handle(run, self._slots.wait(block=True))
        for slot in list(run.running):
            yield from self._end(run, slot, False, CANCELLED)
