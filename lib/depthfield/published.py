"""The paper's published scores by protocol, and the table that shows them beside a run's.

The authors do not state pixels and average for all of these; the protocol here is the one that others use for the
same numbers.
"""

from typing import NamedTuple

from depthfield import protocols, scoring

POSTER = "Table 1 of the authors' poster (poster.pdf of comeonyang/Depth-Estimation-DCNF)"
NEWER = f'{POSTER}, there "Ours-new"'
README = "as the README of iro-cp/FCRN-DepthPrediction quotes it"
MEMORY = "from memory, not checked against the paper"
CONFLICT = "from memory, and two recollections differ"


class Row(NamedTuple):
    method: str
    values: tuple[float, ...]  # in the order of scoring.METRICS; deltas may be missing
    source: str


ROWS = {
    "nyu": (
        Row("DCNF, pre-trained", (0.257, 0.101, 0.843, 0.588, 0.868, 0.961), POSTER),
        Row("DCNF, fine-tuned", (0.230, 0.095, 0.824, 0.614, 0.883, 0.971), POSTER),
        Row("DCNF-FCSP, pre-trained", (0.234, 0.095, 0.842, 0.604, 0.885, 0.973), NEWER),
        Row("DCNF-FCSP, fine-tuned", (0.213, 0.087, 0.759, 0.650, 0.906, 0.976), NEWER),
    ),
    "nyu-eigen": (),
    "make3d-c1": (
        Row("DCNF, pre-trained", (0.331, 0.127, 8.82), MEMORY),
        Row("DCNF, fine-tuned", (0.314, 0.119, 8.60), README),
        Row("DCNF-FCSP", (0.312, 0.113, 9.10), CONFLICT),
        Row("DCNF-FCSP", (0.287, 0.109, 7.36), CONFLICT),
    ),
    "make3d-c2": (
        Row("DCNF, pre-trained", (0.324, 0.134, 13.29), MEMORY),
        Row("DCNF, fine-tuned", (0.307, 0.125, 12.89), MEMORY),
        Row("DCNF-FCSP", (0.305, 0.120, 13.24), CONFLICT),
        Row("DCNF-FCSP", (0.287, 0.122, 14.09), CONFLICT),
    ),
}


def table(name: str, summaries: dict[str, dict], beside: bool) -> str:
    """Format the result of protocols.score as a table, with the published rows if `beside`.

    Each row has the protocol's name; its own average has a star, and a published row the number of its source.
    """
    headline = protocols.PROTOCOLS[name].headline
    rows = [
        (f"{name}, {scoring.called(method, summaries)}, {average}{' *' * (average == headline)}", scored[average])
        for method, scored in summaries.items()
        for average in scoring.AVERAGES
    ]
    published = ROWS[name] if beside else ()
    sources = list(dict.fromkeys(row.source for row in published))
    for row in published:
        label = f"{name}, published {row.method} [{sources.index(row.source) + 1}]"
        rows.append((label, dict(zip(scoring.METRICS, row.values, strict=False))))
    extent = next(iter(summaries.values()))  # the same for all
    lines = [*scoring.columns(rows), f"{name}: {protocols.PROTOCOLS[name].rule} (*)"]
    lines.append(
        f"scored here: {extent['images']} of {extent['official images']} photos, {extent['pixels']} pixels, "
        f"of {extent['dataset']}"
    )
    lines += [
        f"{scoring.called(method, summaries)}: {scored['steps']} steps on {scored['training photos']} photos, "
        f"weights from {scored['weights from'] or 'none'}"
        for method, scored in summaries.items()
        if "steps" in scored
    ]
    lines += [f"[{number}] {source}" for number, source in enumerate(sources, start=1)]
    if beside and not published:
        lines.append(f"the paper has no scores by {name}")
    return "\n".join(lines)
