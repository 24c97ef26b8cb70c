"""Config keys of the run: the pipeline, the machines, what is kept and evaluated."""

from dataclasses import dataclass

from siirl.config.schema.keys import key

# A table, one key a line:
# fmt: off


@dataclass
class DagConfig:
    """The pipeline."""

    custom_pipeline_fn: str | None = key(None, "module:function(config) that returns a Graph; null: siirl.dag.pipelines.embodied.")


@dataclass
class ClusterConfig:
    """Slots, beside trainer.nnodes and trainer.n_gpus_per_node."""

    component_placement: dict[str, str] | None = key(
        None,
        "Which role lives on which slots: env, rollout, embedding and actor, several of them with commas between, each with all, 0, 0-3, 0-3,8-11 or a list of these. "
        "embedding lives with rollout unless placed itself; null: every role on every slot. One role alone: cluster.component_placement.actor=8-15 (docs/placement.md).",
    )
    num_cpu_slots_per_node: int = key(1, "Slots of a machine without accelerators, each an equal share of its CPU.", minimum=1)


@dataclass
class TrainerConfig:
    """The run: how long, where, on what, and what is kept."""

    total_epochs: int = key(1, "Where total_training_steps is null: train total_epochs × training prompts / data.train_batch_size steps (rounded down, at least 1). Oversampling and refills draw more prompts per step and so pass over them more often.", minimum=1)
    total_training_steps: int | None = key(None, "Training steps, whatever total_epochs says; null: as many as total_epochs gives.", minimum=1)
    save_freq: int = key(5, "Steps between checkpoints, and one at the end; −1: never.", minimum=-1)
    test_freq: int = key(5, "Steps between validations, and one at the end; −1: never.", minimum=-1)
    val_before_train: bool = key(True, "Validate before the first step.")
    val_only: bool = key(False, "Validate once and end: no update, no checkpoint. For policies that cannot be trained, too. The run folder must hold no other results.")
    max_actor_ckpt_to_keep: int = key(5, "Checkpoints kept; older ones are removed.", minimum=1)
    logger: list[str] = key(["console", "tensorboard"], "Where metrics go besides metrics.jsonl.", choices=("console", "tensorboard", "wandb", "swanlab", "trackio"))
    project_name: str = key("siirl_embodied", "Project name for the trackers.")
    experiment_name: str = key("openvla_oft_srpo", "Run name for the trackers.")
    report: bool = key(True, "Write report.html, one page about the run, into the run folder at its end; siirl report writes it at any time.")
    timeline_freq: int = key(5, "Steps between those of which timeline.jsonl holds what every simulator, policy and worker did when, from the first on; −1: none.", minimum=-1)
    max_staleness: int = key(
        0, "Training steps by which the weights that act may lag behind those that are updated: with 1, the next rollout runs while the update does; 0: strictly on-policy, only simulators are reset meanwhile.", minimum=0
    )
    nnodes: int = key(1, "Machines; slots are numbered machine by machine.", minimum=1)
    n_gpus_per_node: int = key(0, "Accelerators per machine, each a slot; 0: cluster.num_cpu_slots_per_node CPU slots.", minimum=0)
    default_local_dir: str = key("ckpts/siirl", "Run folder: checkpoints, metrics.jsonl, config.yaml.")
    tensorboard_dir: str | None = key(None, "TensorBoard log folder; null: $TENSORBOARD_DIR, else tensorboard/ in the run folder.")
    resume_mode: str = key("auto", "auto: newest checkpoint that verifies; disable: start anew; resume_path: trainer.resume_from_path.", choices=("auto", "disable", "resume_path"))
    resume_from_path: str | None = key(None, "global_step_N folder for resume_mode=resume_path.")
    backend: str = key("ray", "ray: node workers and simulators are Ray actors; inline: everything in this process, for a debugger.", choices=("ray", "inline"))
    seed: int = key(0, "Seeds prompts, simulators, sampling and shuffling.", minimum=0, maximum=2**32 - 1)
    deterministic: bool = key(False, "Bit-reproducible on the CPU whatever the timing: the policy acts on one row at a time; slower.")
    cpu_threads: int | None = key(None, "CPU threads of the update on each slot; null: the slot's share of the cores. Acting and embedding use one, because simulators need the others.", minimum=1)


@dataclass
class EvaluateConfig:
    """What siirl.client.evaluate measures; nothing else reads it (docs/evaluation.md)."""

    policy: str | None = key(None, "Policy folder, checkpoint global_step_N, or run folder, which stands for its newest checkpoint; null: actor_rollout_ref.model.path. With a checkpoint every key that is not given has the value of its run.")
    folder: str = key("evaluation", "Where results go. A folder that was begun with the same settings and weights is gone on with.")
    suites: list[str] | None = key(None, "Suites to run, in one table; null: env.env_name alone.")
    split: str = key("all", "all: the first env.num_trials_per_task trials of each task; holdout: the last env.num_holdout_trials of these, which training does not see.", choices=("all", "holdout"))
    rollout_epoch: int = key(1, "Episodes of each trial, each with seeds of its own. The first ones are those that validation in training runs.", minimum=1)
    do_sample: bool = key(False, "Sample; otherwise act greedily.")
    temperature: float = key(1.0, "Sampling temperature, with do_sample.", above=0)
    top_k: int = key(-1, "As rollout.top_k, with do_sample.", minimum=-1)
    top_p: float = key(1.0, "As rollout.top_p, with do_sample.", above=0, maximum=1)
