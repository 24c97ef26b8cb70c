"""The run's config, its versions and machine, and what it warned of."""

from typing import Any

from siirl.config.checks import EMBODIED, ENV
from siirl.config.evaluation import FOLDER, MEANING, SPEED_OF_WORLD_MODELS, SUITES
from siirl.config.load import config_to_dict, read_config
from siirl.config.problems import ConfigError, show
from siirl.observe.report.headline import when
from siirl.observe.report.markup import Child, Html, tag
from siirl.observe.report.run import Row, Run, flatten

OPTIONS = ("--config-name", "-cn")
USUAL = "embodied_srpo_trainer"
"""What `siirl.config.load.parse_command_line` starts from where no name is given."""

EVALUATED = (
    *MEANING,
    *(FOLDER, SUITES, "evaluate.policy", "actor_rollout_ref.model.path", "actor_rollout_ref.model.use_torch_compile"),
    *(f"{EMBODIED}.unnorm_key", f"{ENV}.env_name", f"{ENV}.num_envs", f"{ENV}.asset_dir", f"{ENV}.step_timeout"),
    *(f"{ENV}.world_model.{name}" for name in SPEED_OF_WORLD_MODELS),
    *(f"trainer.{name}" for name in ("nnodes", "n_gpus_per_node", "backend", "deterministic", "cpu_threads")),
    *("trainer.logger", "trainer.report", "actor_rollout_ref.rollout.pipeline_stage_num"),
)
"""Keys that an evaluation reads: what its numbers depend on, what it is of, where and on what it runs; and those that begin
with one of `EVALUATED_SECTIONS`."""
EVALUATED_SECTIONS = (f"{ENV}.val_video_cfg.", "actor_rollout_ref.model.starvla.", "cluster.")


def shown_config(run: Run) -> Row:
    """The keys that a page lists: of an evaluation those that it reads, for the config of a checkpoint's run holds all."""
    if run.results is None:
        return run.config
    return {key: value for key, value in run.config.items() if key in EVALUATED or key.startswith(EVALUATED_SECTIONS)}


def shipped(run: Run) -> tuple[str, Row]:
    """Name and keys of the shipped file that the last start's command names; where it names none, the usual one's."""
    commands = [row["command"] for row in run.journal if row["kind"] == "start"]
    name = config_name(commands[-1]) if commands else None
    if name is not None:
        try:
            return f"{name}.yaml as it is shipped", dict(flatten(config_to_dict(read_config(name).config)))
        except ConfigError:  # a file of the user's own
            pass
    return "the defaults", dict(flatten(config_to_dict(read_config(USUAL).config)))


def config_name(command: list[str]) -> str:
    """The file that a command line starts from."""
    for option in OPTIONS:
        for i, word in enumerate(command):
            if word == option and i + 1 < len(command):
                return command[i + 1].removesuffix(".yaml")
            if word.startswith(f"{option}="):
                return word.partition("=")[2].removesuffix(".yaml")
    return USUAL


def config_tables(run: Run) -> Html:
    """What the run has otherwise than the shipped file, and every key."""
    name, usual = shipped(run)
    config = shown_config(run)
    changed = [(key, usual[key], value) for key, value in config.items() if key in usual and usual[key] != value]
    unknown = [(key, None, value) for key, value in config.items() if key not in usual]
    rows = [tag("tr", tag("th", tag("code", key)), _value(value), _value(was, "was")) for key, was, value in changed]
    rows += [
        tag("tr", tag("th", tag("code", key)), _value(value), tag("td", "no such key", class_="was"))
        for key, _, value in unknown
    ]
    head = tag(
        "tr",
        tag("th", "key"),
        tag("th", "this run" if run.results is None else "this evaluation"),
        tag("th", f"{name}"),
    )
    table = tag("table", tag("thead", head), tag("tbody", rows), class_="config")
    every = [tag("tr", tag("th", tag("code", key)), _value(value)) for key, value in config.items()]
    read = "" if run.results is None else " that an evaluation reads"
    return tag(
        "div",
        tag("p", f"{len(rows)} of {len(config)} keys{read} differ from {name}.", class_="lead"),
        tag("div", table, class_="scroll") if rows else None,
        tag("details", tag("summary", "every key"), tag("div", tag("table", every, class_="config"), class_="scroll")),
        class_="card wide",
    )


def config_differences(runs: list[Run]) -> Html:
    """The keys in which several runs differ."""
    configs = [shown_config(run) for run in runs]
    names = dict.fromkeys(key for config in configs for key in config)
    differing = [key for key in names if len({show(config.get(key)) for config in configs}) > 1]
    rows = [
        tag("tr", tag("th", tag("code", key)), [_value(config.get(key)) for config in configs]) for key in differing
    ]
    head = tag("tr", tag("th", "key"), [tag("th", run.name) for run in runs])
    table = tag("table", tag("thead", head), tag("tbody", rows), class_="config")
    return tag("div", tag("div", table, class_="scroll"), class_="card wide")


def machines(run: Run) -> Html | None:
    """Versions and machine of each start; those of the last one in full."""
    starts = [row for row in run.journal if row["kind"] == "start"]
    if not starts:
        return None
    last = starts[-1]
    versions = [(name, version) for name, version in last["versions"].items()]
    gpus = last.get("gpus", [])
    rows = [
        ("driver", f"{last['host']}: {last['cpu']}, {last['cores']} cores, {last['memory_gib']:g} GiB"),
        ("accelerators", ", ".join(gpus) if gpus else "none on the driver's machine"),
        ("Python", last["python"]),
        *versions,
        ("command", " ".join(last["command"])),
    ]
    table = tag(
        "table", [tag("tr", tag("th", name), tag("td", text, class_="text")) for name, text in rows], class_="config"
    )
    begun = [tag("li", f"{when(row['time'])}, after step {row['step']}, on {row['host']}") for row in starts]
    return tag(
        "div",
        tag("h3", "Versions and machine"),
        tag("div", table, class_="scroll"),
        tag("h3", "Starts"),
        tag("ol", begun),
        tag("p", "As the driver's process found them when it started; journal.jsonl.", class_="how"),
        class_="card",
    )


def warnings(run: Run) -> Html:
    """What the driver warned of."""
    found = [row for row in run.journal if row["kind"] == "warning"]
    items: list[Child] = [tag("li", tag("time", when(row["time"])), " ", row["message"]) for row in found]
    how = "Warnings of the driver's process, each once for every start; journal.jsonl. Workers write theirs to the terminal."
    body = tag("ul", items, class_="warnings") if items else tag("p", "None.", class_="lead")
    return tag("div", tag("h3", f"Warnings ({len(found)})"), body, tag("p", how, class_="how"), class_="card")


def _value(value: Any, kind: str = "") -> Html:
    return tag("td", tag("code", show(value)), class_=kind or None)
