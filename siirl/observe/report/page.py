"""The page: one file with everything in it, for one run or for several."""

import time
from pathlib import Path

from siirl.config.checks import ENV
from siirl.observe.report.axes import percent
from siirl.observe.report.compare import comparison
from siirl.observe.report.films import films, with_video
from siirl.observe.report.flow import flow, slots_table
from siirl.observe.report.gantt import drawing, idle_share, legend, read_step, shares_table
from siirl.observe.report.headline import state, tiles, what
from siirl.observe.report.imagination import imagination
from siirl.observe.report.learning import learning
from siirl.observe.report.markup import Child, Html, join, tag
from siirl.observe.report.run import Run
from siirl.observe.report.settings import config_tables, machines, warnings
from siirl.observe.report.stages import filter_chart, reward_charts, stage_times
from siirl.observe.report.tasks import tasks_table

HERE = Path(__file__).parent


def section(title: str, *parts: Child, layout: str = "grid") -> Html | None:
    """A part of the page; None where there is nothing in it. With the layout ``pairs``, two charts stand beside each other."""
    shown = [part for part in parts if part]
    if not shown:
        return None
    anchor = title.lower().replace(" ", "-")
    return tag("section", tag("h2", title), tag("div", shown, class_=layout), id=anchor)


def one_run(run: Run, page: Path) -> Html:
    """Everything about a run."""
    stands = state(run)
    head = tag(
        "header",
        tag("h1", run.name),
        tag("p", what(run), class_="lead"),
        tag("p", tag("span", stands.word, class_=f"badge {stands.color}"), " ", stands.text, class_="state"),
    )
    sections = [
        section("Learning", learning(run)),
        section("Tasks", tasks_table(run)),
        section("Imagined and real", imagination(run, page), layout="grid pairs"),
        section("Rewards and filter", reward_charts(run), filter_chart(run)),
        section("Time", stage_times(run)),
        section("One iteration", iteration(run)),
        section("Workflow", workflow(run)),
        section("Episodes", films(run, page)),
        section("Config", config_tables(run) if run.config else None),
        section("Machine and warnings", machines(run), warnings(run) if run.journal else None),
    ]
    return document(run.name, [head, tiles(run), sections, missing(run)])


def several_runs(runs: list[Run]) -> Html:
    """Runs beside each other."""
    title = f"{'Runs' if any(run.results is None for run in runs) else 'Evaluations'} compared"
    head = tag("header", tag("h1", title), tag("p", ", ".join(run.name for run in runs), class_="lead"))
    sections = [section(name, parts, layout="grid pairs") for name, parts in comparison(runs)]
    return document(title, [head, sections])


def iteration(run: Run) -> Html | None:
    """The newest recorded timeline."""
    if not run.timelines:
        return None
    step = read_step(run.timelines[-1])
    idle = idle_share(step)
    sentence = f"Step {step.number} took {step.seconds:.1f} s."
    if idle is not None:
        count = len(step.role("simulator"))
        sentence += f" Its {count} simulator slot{'s' * (count > 1)} did nothing for {percent(idle, 1)} of that time."
    others = [(row["step"], idle_share(read_step(row))) for row in run.timelines[:-1]]
    known = [f"step {number} {percent(share, 1)}" for number, share in others if share is not None]
    earlier = f" In the steps recorded before: {', '.join(known)}." if known else ""
    keys = [tag("span", tag("i", class_=color), name, class_="key") for color, name in legend(step)]
    lost = f" Of its first {step.missing:.1f} s, events are missing." if step.missing > 0.05 else ""
    how = (
        "timeline.jsonl: each process notes what it does by its monotonic clock; machines are aligned by their wall clocks "
        "(NTP). A slot does nothing while it has no episode, waits for new weights, or waits while the policy acts for others. "
        f"The next step's simulators are reset while the update runs.{lost}"
    )
    return tag(
        "figure",
        tag("figcaption", tag("p", sentence + earlier, class_="lead"), tag("span", keys, class_="legend")),
        drawing(step),
        shares_table(step),
        tag("p", how, class_="how"),
        class_="card wide",
    )


def workflow(run: Run) -> Html | None:
    """The graph, and what lives where."""
    if run.plan is None:
        return None
    how = "plan.json, as it was compiled from the config: nodes in order of their edges, and the slots of the declared cluster."
    return tag("figure", flow(run.plan), slots_table(run.plan), tag("p", how, class_="how"), class_="card wide")


def missing(run: Run) -> Html | None:
    """What the page could not show, and why."""
    wants = {
        "no learning curves and times: metrics.jsonl has no training step": run.is_training
        or len(run.episodes.of("eval")),
        "no intervals and rewards: the folder holds no episodes": len(run.episodes),
        "no timeline: timeline.jsonl is absent or empty (trainer.timeline_freq)": run.timelines or not run.is_training,
        "no workflow: plan.json is absent": run.plan or not run.is_training,
        f"no films: {_why_no_films(run)}": len(with_video(run)),
    }
    absent = [text for text, there in wants.items() if not there]
    if not absent:
        return None
    return tag("section", tag("p", "Not on this page: ", "; ".join(absent), ".", class_="how"))


def _why_no_films(run: Run) -> str:
    """None were asked for, or those that were are gone."""
    splits = ("val_video_cfg",) if run.results is not None else ("video_cfg", "val_video_cfg")
    keys = [f"{ENV}.{split}.save_video" for split in splits]
    if run.config and not any(run.config.get(key) for key in keys):
        return f"none were asked for ({' or '.join(f'{key}=true' for key in keys)})"
    return "no episode has a video that is still there"


def document(title: str, body: Child) -> Html:
    """A whole HTML file."""
    style = Html((HERE / "style.css").read_text())
    script = Html((HERE / "hover.js").read_text())
    made = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("meta", name="generator", content="siirl"),
        tag("link", rel="icon", href="data:,"),
        tag("title", f"{title} · siirl"),
        tag("style", style),
    )
    foot = tag("footer", f"Written by siirl, {made}. It needs no network.")
    tip = tag("div", id="tip", role="status")
    page = tag("body", tag("main", body, foot), tip, tag("script", script))
    return join(Html("<!doctype html>\n"), tag("html", head, page, lang="en"))
