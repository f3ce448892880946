"""The page of one run, or of several side by side, as a single HTML file.

Figures are SVG, photos are JPEG, and the numbers are included as JSON. Without the pictures the page stays below 300 kB
however long a run is: curves are thinned, and long lists are cut with a remark.
"""

import base64
import re
import time
from collections.abc import Sequence
from pathlib import Path

import jinja2
import markupsafe

from depthfield import history, picture
from depthfield.history import Run
from depthfield.report import colours, commands, curves, data, figures, nodes, overview, photos, scores
from depthfield.report.cells import moment
from depthfield.report.view import Tested, View
from depthfield.tool import Failure, some
from depthfield.training import provenance

JPEG = "data:image/jpeg;base64,"
MOST_RUNS = 8  # as many as there are colours


def render(runs: Sequence[Run], tested: Sequence[Tested | None], untested: str) -> str:
    """Return the page. `tested` has the predictions of each run or None; `untested` says in a sentence why none."""
    names = history.names(runs)
    views = [View(*each) for each in zip(runs, names, range(len(runs)), tested, strict=True)]
    several = len(views) > 1
    differing, settings = overview.settings(views)
    of_scores, measured_little = curves.of_scores(views)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined,
    )  # fmt: skip
    environment.filters["marked"] = marked
    environment.filters["jpeg"] = lambda picture: JPEG + base64.b64encode(picture).decode()
    return environment.get_template("page.html").render(
        title=f"{len(views)} runs compared" if several else names[0],
        summary=", ".join(names) if several else overview.in_a_sentence(runs[0]),
        views=views,
        several=several,
        key_figures=[] if several else overview.key_figures(runs[0]),
        runs=overview.runs_table(views) if several else None,
        facts=overview.facts(views),
        differing=differing,
        settings=settings,
        curves=of_scores,
        measured_little=measured_little,
        validated=any(view.run.validation for view in views),
        restarted=bool(curves.marks(views)),
        on_test_photos=scores.on_test_photos(views),
        extent=scores.extent(views),
        on_held_out_photos=scores.on_held_out_photos(views),
        protocols=scores.by_protocols(views),
        photos=photos.of_runs(views),
        untested=untested,
        by_photo=scores.by_photo(views),
        calibration=scores.calibration(views),
        uncertainty=scores.uncertainty(views),
        speed=nodes.speed(views),
        of_speed=curves.of_speed(views),
        spent=curves.WHERE,
        clusters=clusters(views),
        commands=[
            (view, commands.of_attempts(view.run), *commands.of_run(view.run, max(commands.MOST // len(views), 2)))
            for view in views
        ],
        notes=[(view.name, note) for view in views for note in view.run.notes],
        box=figures,
        backgrounds=colours.BACKGROUNDS,
        palettes=colours.CURVES,
        gradients={"depths": colours.gradient(picture.DEPTHS), "errors": colours.gradient(picture.ERRORS)},
        data=data.of_runs(views),
        made=moment(time.time()),
    )


def test_shards(run: Run) -> list[Path]:
    """Return the shards of test photos beside those that a run was trained on.

    Raises Failure where it has no checkpoint to predict them with, or there are none.
    """
    if not run.checkpoints:
        raise Failure(f"{run.path}: no checkpoint yet")
    folders = provenance.records(run.path)
    if not folders:
        raise Failure(f"{run.path}: its commands name no shards")
    found = sorted(shard for folder in folders for shard in folder.glob("test-*.tfrecord"))
    if not found:
        raise Failure(f"{run.path}: no shard of test photos in {some(folders, 3)}")
    return found


def marked(text: str) -> markupsafe.Markup:
    """Return a text as HTML, with what stands between backticks as code."""
    return markupsafe.Markup(re.sub("`(.+?)`", r"<code>\1</code>", str(markupsafe.escape(text))))


def has_photos(path: Path) -> bool:
    """Whether a file is a page with photos."""
    return path.is_file() and f'src="{JPEG}' in path.read_text(encoding="utf-8", errors="replace")


def clusters(views: Sequence[View]) -> list[tuple]:
    """Return each view with the tables of its starts, attempts and nodes."""
    most = max(nodes.ROWS // len(views), 3)
    tables = (nodes.starts, nodes.attempts, nodes.of_last_attempt)
    return [(view, *(table(view.run, most) for table in tables)) for view in views]
