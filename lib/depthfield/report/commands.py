"""The commands that wrote to a run, and the versions that ran them."""

import re
from typing import NamedTuple

from depthfield import history
from depthfield.history import Attempt, Run
from depthfield.report.cells import last, moment
from depthfield.report.figures import ranges

MOST, FEW, CHARACTERS = 24, 4, 1200  # commands on a page, those of run-cluster, and characters of each
SHARD = re.compile(r"([\w./+@%=~-]*-)(\d{5})(-of-\d{5}\.tfrecord)")


class Command(NamedTuple):
    text: str
    when: str
    by: str  # versions and host


def of_attempts(run: Run) -> list[Command]:
    """Return the commands of run-cluster that began the attempts of a run, each once with its settings."""
    begun: dict[str, list[Attempt]] = {}
    for attempt in run.attempts:
        if attempt.command:
            begun.setdefault(attempt.command, []).append(attempt)
    kept, _ = last(list(begun.items()), FEW, "commands", "nodes/")
    return [
        Command(clipped(command), f"attempt{'s' if len(of) > 1 else ''} {ranges(each.number for each in of)}", "")
        for command, of in kept
    ]


def of_run(run: Run, most: int) -> tuple[list[Command], str]:
    """Return the last `most` commands of a run, each once with its times, and a remark about those left out."""
    calls: dict[tuple[str, str], list[str]] = {}
    for line in run.commands:
        versions = [f"{name} {line[name]}" for name in ("depthfield", "tensorflow", "python") if line.get(name)]
        commit = [f"commit {line['commit']}"] if line.get("commit") else []
        by = ", ".join([*versions, *commit, *([f"on {line['host']}"] if line.get("host") else [])])
        calls.setdefault((str(line.get("command", "unknown")), by), []).append(moment(history.time_of(line)))
    kept, more = last(list(calls.items()), most, "commands", "commands.jsonl")
    found = []
    for (command, by), times in kept:
        when = times[0] if len(times) == 1 else f"{len(times)} times, from {times[0]} to {times[-1]}"
        found.append(Command(clipped(braced(command)), when, by))
    return found, more


def braced(command: str) -> str:
    """Shorten consecutive shards in a command to a brace expansion of bash: train-{00000..00007}-of-00008.tfrecord."""
    words: list[str] = []
    row: list[re.Match] = []

    def close() -> None:
        short = (
            [f"{row[0][1]}{{{row[0][2]}..{row[-1][2]}}}{row[0][3]}"] if len(row) > 2 else [shard[0] for shard in row]
        )
        words.extend(short)
        row.clear()

    for word in command.split(" "):
        shard = SHARD.fullmatch(word)
        if row and not (shard and (shard[1], int(shard[2]), shard[3]) == (row[0][1], int(row[-1][2]) + 1, row[0][3])):
            close()
        if shard:
            row.append(shard)
        else:
            words.append(word)
    close()
    return " ".join(words)


def clipped(command: str) -> str:
    left = len(command) - CHARACTERS
    return command if left <= 0 else f"{command[:CHARACTERS]} … {left:,} more characters in commands.jsonl"
