"""Why a job of Grid Engine ended: its accounting records, and what they mean in plain words."""

import contextlib
import json
import math
import os
import re
import signal
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from depthfield.cluster.endings import GOES_ON, HELD
from depthfield.cluster.gridengine import read_seconds
from depthfield.cluster.hosts import size
from depthfield.tool import RUN_ME_AGAIN, Failure

RULE = "=" * 62  # separates the records that qacct prints
TIMES = ("%a %b %d %H:%M:%S %Y", "%Y-%m-%d %H:%M:%S.%f", "%Y-%m-%d %H:%M:%S", "%m/%d/%Y %H:%M:%S")  # of qacct 8 and 9
NOTHING = re.compile(r"job id \S+ not found|no jobs running since startup|/accounting: No such file or directory")
BLOCK = 2**18  # bytes read at a time, from the end of a file
JSON_TAIL, LOG_TAIL = 2**26, 2**24  # bytes to search for a job, from the end of accounting.jsonl and of a log
QACCT_SECONDS = 120
SKEW = 5  # seconds between the clocks of two hosts

FULL = 0.85  # share of the allowed memory: a job killed above it ran out. qacct has samples, not the true peak
CROWDED = 0.6  # share of the allowed memory: a job that fails above it may have been refused an allocation
SPARE = 1.25  # times the memory that was used on a host, to be asked for
LATE = 120  # seconds after a time limit in which a kill counts as caused by it: `notify` delays a kill by a minute

AT_LIMIT, AFTER_JOB, RESCHEDULED, ASKED_FOR_ERROR = 37, 100, 25, 30  # values of `failed` for jobs that ran
KILLING = {signal.SIGKILL, signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU}  # signals by which Grid Engine ends a job
STARVING = {signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS}  # what ends a program without memory
FAILED = {  # texts of sge_status(5): accounting.jsonl has only the numbers
    1: "assumedly before job", 3: "before writing config", 4: "before writing PID", 6: "setting processor set",
    7: "before prolog", 8: "in prolog", 9: "before pestart", 10: "in pestart", 11: "before job", 12: "before pestop",
    13: "in pestop", 14: "before epilog", 15: "in epilog", 16: "releasing processor set", 17: "through signal",
    18: "shepherd returned error", 19: "before writing exit_status", 20: "found unexpected error file",
    21: "in recognizing job", 24: "migrating (checkpointing jobs)", 25: "rescheduling", 26: "opening output file",
    27: "searching requested shell", 28: "changing into working directory", 29: "AFS setup",
    30: "application error returned", 36: "checking configured daemons",
    37: "qmaster enforced h_rt, h_cpu, or h_vmem limit", 38: "adding supplementary group", 100: "assumedly after job",
}  # fmt: skip
SITES = "the site's own script failed; show this to your administrator"
TROUBLE = {  # meaning of a `failed` value and what to do; all others are problems of the host
    8: SITES, 10: SITES, 13: SITES, 15: SITES,
    19: "the host, or Grid Engine's process on it, died while the job ran",
    21: "Grid Engine's daemon on the host did not know the job: it was restarted, or not reachable",
    26: "its log cannot be written there; name a folder that exists on every host, with -o",
    27: "the shell of its first line, or of -S, does not exist there",
    28: "its working folder does not exist there; use a folder that every host shares",
    29: "AFS gave no access to the job's files",
    36: "remote start-up is configured wrongly on the host",
}  # fmt: skip
SEE_LOG = ("; see its log", "; its log names the one to correct")  # how a line ends that knows no more than the log
OF_JOB = {26, 27, 28}  # these leave the job in the error state; all others are problems of the host
REASONS = (  # an error reason of `qstat -j`, and its meaning
    (r"can't open output file \"(.*?)\"(?:: (.*))?", "cannot write its log {0} ({1}); name a folder that exists on "
     "every host, with -o, or create it"),
    (r"can't stat\(\) \"(.*?)\" as (?:\S+): (.*)", "cannot use {0} ({1}); name a path that exists on every host"),
    (r"can't chdir to (.*?): (.*)", "cannot enter its working folder {0} ({1}); create it on a shared disk"),
    (r"can't open (?:\S+ )*file \"(.*?)\"(?:: (.*))?", "cannot read {0} ({1}); put it on a disk that all hosts share"),
    (r"can't get password entry for user \"(.*?)\"", "the host does not know the user {0}; show this to your "
     "administrator, and leave the host out until then"),
    (r"unable to find (?:\S+ )?shell \"(.*?)\"", "the shell {0} does not exist; correct its first line, or -S"),
    (r"exit_status of job start = 100", "it put itself into the error state, with exit status 100; see its log"),
    (r"exit_status of (prolog|pe_start|pe_stop|epilog) = (\d+)", "the site's {0} ended with exit status {1}; show this "
     "to your administrator"),
)  # fmt: skip
DELETION = re.compile(  # in the qmaster's messages: user, tasks, job, task
    r"(\S+) (?:has registered the|has deleted|forced the deletion of) "
    r"job(?:-array task)?(?:s ([\d,]+) of job)? (\d+)(?:\.(\d+))?\b"
)
DAEMONS = {"execution daemon", "scheduler", "master"}  # these log each deletion a second time


class Record(NamedTuple):
    """The end of a job, of a task of an array job, or of a task that `qrsh -inherit` started on a host."""

    job: str
    task: int | None  # number in an array job; Open Cluster Scheduler also gives 1 to other jobs
    pe_task: str | None  # id of a `qrsh -inherit`; None for the job itself, and always with qacct 8.1.9
    host: str
    owner: str
    start: float | None  # seconds since the epoch; None: never started
    end: float | None
    failed: int
    failed_text: str
    exit_status: int  # 128 + N if signal N ended it
    cpu: float  # seconds
    maxvmem: int  # bytes, the largest of samples
    slots: int  # of the whole job
    pe: str | None
    category: str  # the request, such as `-q all.q -l h_vmem=200M`
    deleted_by: str | None = None
    queue: str = ""  # all.q

    @property
    def wallclock(self) -> float:
        """Seconds from start to end; 0 if it never started."""
        return max(self.end - self.start, 0) if self.start and self.end else 0


class Crowd(NamedTuple):
    """A host, the memory that a job used there, and the memory that its request allowed there; bytes."""

    host: str
    used: int
    allowed: float


# ---------------------------------------------------------------------------------------------------------- reading


def of(job: str) -> list[Record]:
    """Return the records of a job, oldest first, with the user who deleted it if a log says so.

    The list is empty before the job ends, for ten seconds or more after that, and forever if the job was deleted while
    it waited. Raises Failure if qacct fails for any other reason than an unknown job.
    """
    try:
        ran = subprocess.run(["qacct", "-j", job], capture_output=True, text=True, timeout=QACCT_SECONDS)
        records, wrong = read_qacct(ran.stdout), ran.stderr.strip()
    except FileNotFoundError:
        records, wrong = [], ""
    except subprocess.TimeoutExpired:
        records, wrong = [], f"no answer in {QACCT_SECONDS} s"
    if not records:
        lines = _last_lines(_cell() / "common/accounting.jsonl", JSON_TAIL)
        records = read_jsonl(lines, job)[::-1]
    if not records and wrong and not NOTHING.search(wrong):
        raise Failure(f"qacct -j {job}: {wrong.splitlines()[-1]}")
    return _with_deletions(records)


def read_qacct(text: str) -> list[Record]:
    """Return the records that `qacct -j` printed, in its order: a job comes after the tasks that it started."""
    records = []
    for block in re.split(f"(?m)^{RULE}=*$", text):
        values = dict(pair for line in block.splitlines() if len(pair := line.split(None, 1)) == 2)
        if values.get("jobnumber", "").strip().isdigit():
            records.append(_from_qacct({name: value.strip() for name, value in values.items()}))
    return records


def read_jsonl(lines: Iterable[str], job: str) -> list[Record]:
    """Return the records of `job` in the lines of an accounting.jsonl, in order; lines that are not JSON are skipped.

    Open Cluster Scheduler 9 writes this file: times in microseconds, memory in bytes, usage in nested objects.
    """
    records = []
    for line in lines:
        if job in line:  # parsing is slow, and a file has millions of lines
            with contextlib.suppress(ValueError, TypeError, AttributeError):
                values = _flat(json.loads(line))
                if str(values.get("job_number")) == job:
                    records.append(_from_json(values))
    return records


def deleted_by(job: str, lines: Iterable[str], since: float = 0, until: float = math.inf) -> str | None:
    """Return who deleted `job` (`12`, or a task `12.3`) according to the last of these lines that says so, or None.

    The lines are those of the qmaster's `messages` file, which has deletions at loglevel log_info and forced ones
    always, or of the `reporting` file, which has them with joblog=true. Only lines logged from `since` to `until`
    (seconds since the epoch) count. A line about the task itself takes precedence over one about its whole job.
    """
    number, _, task = job.partition(".")
    whole = own = None
    for time, user, deleted, tasks in _deletions(line for line in lines if number in line):
        if deleted == number and since <= time <= until:
            whole = whole if tasks and task else user
            own = user if task in tasks else own
    return own or whole


def logged_deletion(job: str) -> str | None:
    """Return who deleted `job` (`12` or `12.3`) according to the logs that this machine can read; None if unknown."""
    return deleted_by(job, _log_lines({job.partition(".")[0]}))


def _deletions(lines: Iterable[str]) -> Iterator[tuple[float, str, str, list[str]]]:
    """Yield the deletions in a log: seconds since the epoch, user, job, and its tasks ([] for all of them)."""
    for line in lines:
        fields = line.rstrip("\n").split(":")
        if fields[1:2] == ["job_log"]:
            if fields[3:4] == ["deleted"] and len(fields) > 8 and fields[8] not in DAEMONS:
                yield float(fields[0]), fields[8], fields[4], [fields[5]] * (fields[5] != "0")
        elif match := DELETION.match(line.rpartition("|")[2]):
            user, tasks, job, task = match.groups()
            yield _time(line.partition("|")[0]) or 0, user, job, re.findall(r"\d+", tasks or task or "")


def _from_qacct(values: dict[str, str]) -> Record:
    failed, _, text = values.get("failed", "0").partition(":")
    return Record(
        job=values["jobnumber"],
        task=_int(values.get("taskid")),
        pe_task=_known(values.get("pe_taskid")),
        host=values.get("hostname", ""),
        owner=values.get("owner", ""),
        start=_time(values.get("start_time", "")),
        end=_time(values.get("end_time", "")),
        failed=_int(failed) or 0,
        failed_text=text.strip(),
        exit_status=_int(values.get("exit_status")) or 0,
        cpu=float(re.match(r"\d*\.?\d*", values.get("cpu", ""))[0] or 0),
        maxvmem=_bytes(values.get("maxvmem", "0").removesuffix("B")) or 0,
        slots=_int(values.get("slots")) or 1,
        pe=_known(values.get("granted_pe")),
        category=values.get("category", ""),
        deleted_by=_known(values.get("deleted_by")),
        queue=values.get("qname") or "",
    )


def _from_json(values: dict) -> Record:
    failed = int(values.get("failed", 0))
    return Record(
        job=str(values["job_number"]),
        task=values.get("task_number") or None,
        pe_task=_known(values.get("pe_taskid") or values.get("pe_task_id")),
        host=values.get("hostname", ""),
        owner=values.get("owner", ""),
        start=_microseconds(values.get("start_time", 0)),
        end=_microseconds(values.get("end_time", 0)),
        failed=failed,
        failed_text=FAILED.get(failed, ""),
        exit_status=int(values.get("exit_status", 0)),
        cpu=float(values.get("cpu", 0)),
        maxvmem=int(values.get("maxvmem", 0)),
        slots=int(values.get("slots", 1)),
        pe=_known(values.get("granted_pe")),
        category=values.get("category") or "",
        deleted_by=_known(values.get("deleted_by")),
        queue=values.get("qname") or "",
    )


def _flat(values: dict) -> dict:
    """Flatten a record: the names of its nested objects differ between versions."""
    inner = [_flat(value) for value in values.values() if isinstance(value, dict)]
    return {name: value for part in [*inner, values] for name, value in part.items() if not isinstance(value, dict)}


def _time(text: str) -> float | None:
    """Convert a time that qacct prints, in this machine's zone, to seconds since the epoch; None for `-/-`."""
    for form in TIMES:
        with contextlib.suppress(ValueError):
            return datetime.strptime(text, form).timestamp()
    return None


def _microseconds(time: int) -> float | None:
    """Convert a time of accounting.jsonl to seconds since the epoch; None for 0."""
    return time / 1e6 if time else None


def _int(text: str | None) -> int | None:
    """Return the number at the start of a value, such as `137  (Killed)`; None if there is none."""
    match = re.match(r"\s*(\d+)", text or "")
    return int(match[1]) if match else None


def _known(text: str | None) -> str | None:
    return None if text in (None, "", "NONE", "undefined") else text


def _cell() -> Path:
    """Return the folder of this Grid Engine's settings and accounting."""
    return Path(os.environ.get("SGE_ROOT") or "/nonexistent", os.environ.get("SGE_CELL") or "default")


def _with_deletions(records: list[Record]) -> list[Record]:
    lines = list(_log_lines({record.job for record in records}))
    found = []
    for record in records:
        name = record.job if record.task is None else f"{record.job}.{record.task}"
        user = deleted_by(name, lines, (record.start or 0) - SKEW, (record.end or math.inf) + SKEW)
        found.append(record._replace(deleted_by=record.deleted_by or user))
    return found


def _log_lines(jobs: Iterable[str]) -> Iterator[str]:
    """Yield the lines at the end of Grid Engine's readable logs that name one of the jobs, oldest first."""
    spool = ""
    with contextlib.suppress(OSError):
        bootstrap = (_cell() / "common/bootstrap").read_text()
        spool = "".join(re.findall(r"(?m)^qmaster_spool_dir\s+(\S+)", bootstrap))
    for log in [Path(spool, "messages")] * bool(spool) + [_cell() / "common/reporting"]:
        named = [line for line in _last_lines(log, LOG_TAIL) if any(job in line for job in jobs)]
        yield from reversed(named)


def _last_lines(path: Path, bound: int) -> Iterator[str]:
    """Yield the lines in the last `bound` bytes of a file, from last to first; nothing if it cannot be read.

    The line at the bound is left out, because it may be incomplete.
    """
    with contextlib.suppress(OSError), path.open("rb") as file:
        position = file.seek(0, os.SEEK_END)
        first, rest = max(position - bound, 0), b""
        while position > first:
            begin = max(position - BLOCK, first)
            file.seek(begin)
            rest, *lines = (file.read(position - begin) + rest).split(b"\n")
            position = begin
            for line in reversed(lines):
                yield line.decode(errors="replace")
        if not first:
            yield rest.decode(errors="replace")


# -------------------------------------------------------------------------------------------------------- explaining


def explain(records: list[Record], asked: dict[str, str], limits: Sequence[int] = ()) -> str | None:
    """Explain in one line why a job failed and what to change; None if it succeeded or has no records.

    `asked` has its requests by name, such as {"h_vmem": "4G", "h_rt": "3600"}; missing ones are taken from the records.
    `limits` are the run time limits, in seconds, of the queues it may have been in. For an array job, the first failed
    task is explained and the other failed ones are counted.
    """
    tasks: dict[int | None, list[Record]] = {}
    for record in records:
        tasks.setdefault(record.task, []).append(record)
    failed = {task: line for task, ends in tasks.items() if (line := _explain_task(ends, asked, limits))}
    if not failed:
        return None
    first = min(failed, key=lambda task: task or 0)
    if len(tasks) == 1 and (first or 1) == 1:
        return failed[first]
    others = f"; {len(failed) - 1} more of {len(tasks)} tasks failed" if len(failed) > 1 else ""
    return f"task {first}: {failed[first]}{others}"


def explain_errors(reasons: list[str], job: str = "ID") -> str:
    """Explain the error reasons that `qstat -j` lists for a job in state Eqw: meaning, what to change, how to clear it.

    A reason may still start with `error reason 1:`, a time and a process.
    """
    meanings = dict.fromkeys(_reason(reason) for reason in reasons if reason.strip())
    what = "; ".join(meanings) or "Grid Engine gives no reason"
    return f"{what}; then clear the error: qmod -cj {job}"


def _explain_task(ends: list[Record], asked: dict[str, str], limits: Sequence[int]) -> str | None:
    """Explain why a job, or one task of an array job, ended, from all its records, oldest first."""
    # qacct 8.1.9 does not say which record is the job's own; it comes after those of the tasks that it started.
    last = next((record for record in reversed(ends) if not record.pe_task), ends[-1])
    attempt = [record for record in ends if (record.start or 0) >= (last.start or 0)]
    asked = requests(last.category) | asked
    if last.deleted_by and not _ended_well(last):
        owner = "its owner" if last.deleted_by.partition("@")[0] == last.owner else f"not by its owner, {last.owner}"
        return f"deleted by {last.deleted_by}, {owner}, {_after(last)}"
    number = _signal(last)
    if last.failed == AT_LIMIT or (last.failed == AFTER_JOB and number):
        return _killed(last, number, asked, limits, _fullest(attempt, asked))
    if last.failed == RESCHEDULED:
        return _rescheduled(last)
    if last.failed and last.failed != ASKED_FOR_ERROR:
        return _trouble(last)
    return _exit(last, asked, _fullest(attempt, asked)) if last.exit_status else None


def _ended_well(record: Record) -> bool:
    """Whether it succeeded: 8.1.9 writes the same record for a forced deletion, but with no CPU time."""
    return not record.failed and not record.exit_status and record.cpu > 0


def _killed(
    record: Record, number: int | None, asked: dict[str, str], limits: Sequence[int], crowd: Crowd | None
) -> str:
    """Explain why the signal `number` ended the job: a limit, memory, or a person."""
    enforced = record.failed == AT_LIMIT
    reached = _time_limit(record, asked, limits)
    if reached and (enforced or (number in KILLING and record.wallclock <= reached[0] + LATE)):
        return _out_of_time(record, *reached)
    if crowd and crowd.used >= FULL * crowd.allowed and (enforced or number in STARVING):
        return f"killed for memory: {_memory(record, asked, crowd)}"
    cpu = _seconds(asked.get("h_cpu"))
    if cpu and (enforced or (number in KILLING and record.cpu >= FULL * cpu)):
        return (
            f"killed for CPU time: it used {_duration(record.cpu)}, and it requested h_cpu={asked['h_cpu']} per slot"
            f"; request more with REQUEST='-l h_cpu={round(2 * cpu)}'"
        )
    used = _after(record) + (f", with {_size(record.maxvmem)} used" if record.maxvmem else "")
    if enforced:
        return (
            f"killed at a limit on run time, CPU time or memory {used}: not its own, perhaps its queue's; "
            "see h_rt, h_cpu and h_vmem in `qconf -sq QUEUE`, and choose another queue with REQUEST='-q QUEUE'"
        )
    if crowd and crowd.used >= CROWDED * crowd.allowed and number in STARVING:
        return f"died by signal {_name(number)} {_after(record)}, perhaps for memory: {_memory(record, asked, crowd)}"
    if number in (signal.SIGKILL, signal.SIGUSR2):
        parallel = ", or one of its tasks died by a signal, which ends a parallel job" if record.pe else ""
        return (
            f"killed by signal {_name(number)} {used}: deleted with qdel, or killed on its host{parallel}; "
            "the accounting does not say which; see its log"
        )
    return f"died by signal {_name(number)} {used}: see its log"


def _out_of_time(record: Record, limit: float, name: str | None) -> str:
    ran = f"killed for time: it ran {_duration(record.wallclock)}, and"
    if name is None:
        return (
            f"{ran} its queue allows {_duration(limit)}; choose a queue that allows more with REQUEST='-q QUEUE', "
            "or set TIMEOUT to stop and save before the limit"
        )
    return (
        f"{ran} {name} allows {_duration(limit)}; request more with REQUEST='-l {name}={round(2 * limit)}', "
        "or set TIMEOUT to stop and save before the limit"
    )


def _memory(record: Record, asked: dict[str, str], crowd: Crowd) -> str:
    """Describe the memory that was used, requested per slot and in total, and what to request."""
    each, slots = asked["h_vmem"], record.slots
    whole = f"it requested h_vmem={each} for its one slot"
    if slots > 1:
        total = _bytes(each) * slots
        whole = f"it requested h_vmem={each} per slot, {_size(total)} for its {slots} slots"
        whole += f", about {_size(crowd.allowed)} on each host" if crowd.allowed < total else ""
    # The accounting has samples: the peak that ended it was higher.
    enough = _rounded_up(max(2 * _bytes(each), SPARE * crowd.used * _bytes(each) / crowd.allowed))
    return (
        f"it used {_size(crowd.used)} on {crowd.host}, and {whole}; request more with REQUEST='-l h_vmem={enough}' "
        "(h_vmem is multiplied by the slots on each host, and counts mapped memory)"
    )


def _rescheduled(record: Record) -> str:
    state = "it waits or runs, unless it was deleted; see qstat"
    if record.exit_status == RUN_ME_AGAIN:  # 8.1.9 writes this also after a warning by qdel
        return f"asked to be run again (exit status 99) {_after(record)}; {state}"
    return f"taken off {record.host} to be run again, by qmod -rj or because the host was lost; {state}"


def _trouble(record: Record) -> str:
    """Explain why the job did not start on a host, or failed there through no fault of its own."""
    text = record.failed_text or FAILED.get(record.failed, "unknown to this tool")
    means = TROUBLE.get(record.failed, "a problem of the host, not of the job")
    began = f"failed on {record.host} {_after(record)}" if record.start else f"did not start on {record.host}"
    then = (
        f"then clear the error: qmod -cj {record.job}"
        if record.failed in OF_JOB
        else f"leave the host out with REQUEST='-l hostname=!({record.host})', and tell your administrator"
    )
    return f"{began} (failed {record.failed}, {text}): {means}; {then}"


def _exit(record: Record, asked: dict[str, str], crowd: Crowd | None) -> str:
    """Explain the exit status of the job's script."""
    status, after = record.exit_status, _after(record)
    if status == HELD:
        return (
            f"put itself into the error state (exit status 100) {after}; see its log, "
            f"then run it again with qmod -cj {record.job}, or delete it with qdel {record.job}"
        )
    if status == RUN_ME_AGAIN:
        return f"asked to be run again (exit status 99) {after}, but was not; submit it with -r y, or start it again"
    if status == GOES_ON:
        return f"continues in a copy of this job (exit status 75) {after}; see qstat"
    if status == 2:
        return f"wrong settings (exit status 2) {after}; its log names the one to correct"
    number = _signal(record)
    died = f": a command in it died by signal {_name(number)}" if number else ""
    died = {126: ": a command cannot be run", 127: ": a command was not found"}.get(status, died)
    failed = f"failed (exit status {status}) {after}{died}"
    if crowd and crowd.used >= CROWDED * crowd.allowed and (status == 1 or number in STARVING):
        return f"{failed}; see its log, perhaps for memory: {_memory(record, asked, crowd)}"
    return f"{failed}; see its log"


def _reason(reason: str) -> str:
    """Explain one error reason; an unknown one is returned as it is, without time and process."""
    text = re.sub(r"^.*?\d\d:\d\d:\d\d(?:\.\d+)? \[\d+:\d+\]: (?:error: )?", "", reason.strip())
    for pattern, words in REASONS:
        if match := re.search(pattern, text):
            return words.format(*(group or "no reason given" for group in match.groups()))
    return text


def requests(category: str) -> dict[str, str]:
    """Return the -l requests of a category by name: {"h_vmem": "200M"} for `-q all.q -l h_vmem=200M -pe orte 4`."""
    pairs = ",".join(re.findall(r"(?:^|\s)-l (\S+)", category)).split(",")
    return {name: value for name, equals, value in (pair.partition("=") for pair in pairs) if equals}


def _fullest(attempt: list[Record], asked: dict[str, str]) -> Crowd | None:
    """Return the host on which an attempt used the largest share of its memory; None if no h_vmem was requested.

    The accounting does not say how many slots the job had on each host; they are assumed to be spread evenly.
    """
    each = _bytes(asked.get("h_vmem"))
    if not each:
        return None
    used: dict[str, int] = {}
    for record in attempt:
        used[record.host] = used.get(record.host, 0) + record.maxvmem
    host = max(used, key=used.get)
    return Crowd(host, used[host], each * max(attempt[-1].slots / len(used), 1))


def _time_limit(record: Record, asked: dict[str, str], limits: Sequence[int]) -> tuple[float, str | None] | None:
    """Return the longest limit that the run time has reached: its seconds, and its name if it was requested."""
    known: list[tuple[float, str | None]] = [(limit, None) for limit in limits]
    known += [(limit, name) for name in ("s_rt", "h_rt") if (limit := _seconds(asked.get(name)))]
    reached = [limit for limit in known if record.wallclock >= limit[0] - 1]  # times are whole seconds
    return max(reached, key=lambda limit: limit[0], default=None)


def _signal(record: Record) -> signal.Signals | None:
    """Return the signal that an exit status stands for."""
    with contextlib.suppress(ValueError):
        return signal.Signals(record.exit_status - 128)
    return None


def _seconds(text: str | None) -> int | None:
    """Convert a time as in qsub, `90` or `1:30:00`, to seconds; None for INFINITY or anything else."""
    return next(iter(read_seconds(text or "")), None) or None


def _bytes(text: str | None) -> int | None:
    """Convert a size as in qsub to bytes; None for INFINITY or anything else."""
    with contextlib.suppress(ValueError):
        return size(text or "")
    return None


def _rounded_up(count: float) -> str:
    """Format bytes as qsub takes them, to the next 100M below 1G, to the next 1G above: 400M, 2G."""
    return f"{math.ceil(count / 2**30)}G" if count > 1000 * 2**20 else f"{math.ceil(count / 2**20 / 100) * 100}M"


def _name(number: signal.Signals) -> str:
    return f"{number.name.removeprefix('SIG')} ({number.value})"


def _after(record: Record) -> str:
    return f"after {_duration(record.wallclock)}"


def _size(count: float) -> str:
    """Format bytes: 1.2 GB, 204 MB."""
    for unit, name, digits in ((2**40, "TB", 1), (2**30, "GB", 1), (2**20, "MB", 0)):
        if count >= unit:
            return f"{count / unit:.{digits}f} {name}"
    return f"{count / 2**10:.0f} KB"


def _duration(seconds: float) -> str:
    """Format seconds: 45 s, 12 min 30 s, 3 h, 2 d 5 h."""
    left = round(seconds)
    if left < 120:
        return f"{left} s"
    units = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))
    first = next(index for index, (unit, _) in enumerate(units) if left >= unit)
    parts = []
    for unit, name in units[first : first + 2]:
        count, left = divmod(left, unit)
        parts += [f"{count} {name}"] * bool(count)
    return " ".join(parts)
