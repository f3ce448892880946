"""Calls Grid Engine's client programs: qstat, qsub, qalter, qconf and others. No other module calls them.

A qmaster that does not answer (Unreachable) is distinguished from one that refuses (Refused), whatever the exit status:
`qstat -j ID -xml` exits with status 0 even if no packet reached the qmaster.
"""

import fnmatch
import os
import re
import shutil
import subprocess
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from depthfield.tool import Failure, say

PATIENCE_SECONDS = 300  # a restarted qmaster, or its shadow, is back within minutes
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.5, 15
CALL_SECONDS = 30  # after this a client counts as unanswered: for a hung qmaster it would wait forever
QUICK_SECONDS = 5
ORDER_SECONDS = 300  # for commands that must not run twice: when cut off, qsub took 63 s to succeed or 183 s to fail
NO_ANSWER = re.compile(
    "commlib error|comunication_error|unable to (?:contact|send message to|connect to) |can't connect"
    "|got (?:send|select|read|message acknowledge) error|failed (?:sending|receiving) gdi request|timeout error"
    "|general error .* gdi request|unable to read qmaster name",
    re.IGNORECASE,
)
USAGE = re.compile(r"^SGE \S+\nusage:.*?(?=^error:)", re.MULTILINE | re.DOTALL)  # printed by qhost before its error
UNFIT_FOR_XML = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f]")
AVOIDED = re.compile(r"(?:\((?P<asked>.*)\)&)?!\((?P<hosts>[\w.|-]+)\)")  # the form that `avoiding` writes


class Unreachable(Failure):
    """The qmaster does not answer, after all retries."""


class Refused(Failure):
    """The qmaster or its client refuses; the text is its own message on one line."""


class Answer(NamedTuple):
    """The output of a client that got an answer from the qmaster."""

    status: int
    output: str
    words: str  # stdout and stderr on one line


class Job(NamedTuple):
    """A job as `qstat -j` shows it."""

    id: str
    name: str
    owner: str
    request: dict[str, str]  # hard resources, as in qsub -l; times in seconds: h_rt is "300"
    queues: list[str]  # the hard queue list, as in qsub -q
    hold: list[str]  # ids of unfinished jobs that it waits for
    waiting: list[str]  # ids of jobs that wait for it
    errors: list[str]  # reasons for the error state, each once
    messages: list[str]  # why the scheduler does not start it: reasons of the job, then of the whole grid
    pe: str  # parallel environment, or ""
    slots: str  # requested, as in qsub -pe: "6", "2-8"; "" without a parallel environment
    log: str  # path of its stdout, as in qsub -o; "" if none was named


class Task(NamedTuple):
    """A line of qstat: a job, a running task of an array job, or its pending tasks."""

    id: str
    task: str  # "3", "5-9:2"; "" if the job is not an array job
    state: str  # "qw", "hqw", "t", "r", "dr", "Eqw", "Rq" ...
    queue: str  # all.q@node1.grid.test; "" while it waits
    slots: int
    name: str
    owner: str


class Complex(NamedTuple):
    """A resource that jobs can request, with the columns of `qconf -sc`."""

    shortcut: str
    type: str  # MEMORY, INT, TIME, BOOL, STRING ...
    relop: str  # <=, ==, >= ...
    requestable: str  # YES, NO, FORCED
    consumable: str  # YES (per slot), JOB, NO


# ---- calling clients


def present() -> bool:
    """Whether a client is installed and its cell names a qmaster."""
    cell = Path(os.environ.get("SGE_ROOT") or "/var/lib/gridengine") / (os.environ.get("SGE_CELL") or "default")
    try:
        return shutil.which("qsub") is not None and bool((cell / "common/act_qmaster").read_text().strip())
    except OSError:
        return False


def ask(program: str, *arguments: str, patience: float = PATIENCE_SECONDS) -> str:
    """Return the stdout of a client; retries for `patience` seconds if the qmaster does not answer.

    A patience of 0 means one try. Each try takes up to CALL_SECONDS, the last one beyond `patience`. Only for commands
    that may run twice. Raises Unreachable without an answer, Refused if the exit status is not 0.
    """
    return accepted(program, answer(program, *arguments, patience=patience))


def accepted(program: str, said: Answer) -> str:
    """Return the output of a client that succeeded; raises Refused if it did not."""
    if said.status != 0:
        raise Refused(said.words or f"{program} ended with status {said.status} and no message")
    return said.output


def answer(program: str, *arguments: str, patience: float = PATIENCE_SECONDS) -> Answer:
    """Like `ask`, but returns the answer whatever its exit status; raises Unreachable only."""
    deadline = time.monotonic() + patience
    pause = FIRST_PAUSE_SECONDS
    while True:
        try:
            return call(program, *arguments, seconds=CALL_SECONDS)
        except Unreachable as silence:
            left = deadline - time.monotonic()
            if left <= 0:
                raise
            if pause == FIRST_PAUSE_SECONDS:
                say(f"{silence}; retrying for {patience:.0f} s")
        time.sleep(min(pause, left))
        pause = min(2 * pause, LONGEST_PAUSE_SECONDS)


def call(program: str, *arguments: str, seconds: float) -> Answer:
    """Run a client once, for up to `seconds`; raises Unreachable without an answer, Failure if it is missing."""
    try:
        done = subprocess.run(
            [program, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=seconds,
        )
    except subprocess.TimeoutExpired:
        raise Unreachable(f"the qmaster does not answer: {program} took longer than {seconds:g} s") from None
    except FileNotFoundError:
        raise Failure(f"{program}: command not found; add Grid Engine's clients to PATH") from None
    words = one_line(f"{done.stdout}\n{done.stderr}")
    failed = done.returncode != 0 or not done.stdout.strip()
    if failed and NO_ANSWER.search(words):
        raise Unreachable(f"the qmaster does not answer: {words}")
    if done.returncode == 0 and "-xml" in arguments and (why := unfinished(done.stdout)):
        raise Unreachable(f"the qmaster does not answer: {program} {why}")
    return Answer(done.returncode, done.stdout, words)


def unfinished(xml: str) -> str:
    """Return why this is not a complete answer in XML, or "" if it is."""
    root = re.match(r"\s*<\?xml[^>]*\?>\s*<([\w.-]+)", xml)
    if not root:
        return "printed no XML"
    if root[1] == "comunication_error":  # Grid Engine's own spelling
        return f"printed {one_line(parsed(xml).findtext('AN_text') or root[1])}"
    return "" if xml.rstrip().endswith(f"</{root[1]}>") else "printed incomplete XML"


def one_line(text: str) -> str:
    """Return the output of a client on one line, without usage text and closing words."""
    return " ".join(USAGE.sub("", text).split()).removesuffix(" Exiting.")


def reachable() -> bool:
    """Whether the qmaster answers now, even with a refusal; takes QUICK_SECONDS at most."""
    try:
        call("qconf", "-sss", seconds=QUICK_SECONDS)
    except Unreachable:
        return False
    return True


# ---- commands that change something


def submit(arguments: Sequence[str], avoid: Sequence[str] = ()) -> str:
    """Submit a job with `qsub -terse ARGUMENTS`; returns its id, `123` also for an array job `123.1-4:1`.

    With hosts to `avoid`, the job is submitted on hold, altered to exclude these hosts, and released. If that fails it
    is deleted; if that fails too, it is named.

    A job is never submitted twice: first a harmless query makes sure that the qmaster answers, then qsub runs once. Its
    errors do not tell whether a request was never sent or its answer was lost. Raises Refused, or Unreachable, which
    says if the job may exist.
    """
    held = ["-h"] if avoid else []
    output = order("the job may have been submitted anyway; see qstat", "qsub", "-terse", *held, *arguments)
    new = first_id(r"^(\d+)(?:\.\S*)?\s*$", "qsub", output)
    if avoid:
        release(new, avoid)
    return new


def order(warning: str, program: str, *arguments: str) -> str:
    """Run once a client that must not run twice; `warning` says what a lost answer may mean."""
    answer("qconf", "-sss")
    try:
        return accepted(program, call(program, *arguments, seconds=ORDER_SECONDS))
    except Unreachable as silence:
        raise Unreachable(f"{silence}; {warning}") from None
    except (KeyboardInterrupt, SystemExit):
        say(warning)
        raise


def first_id(pattern: str, program: str, output: str) -> str:
    found = re.findall(pattern, output, re.MULTILINE)
    if not found:
        raise Refused(f"{program} printed no job id: {one_line(output)!r}")
    return found[-1]


def delete(jobs: Iterable[str], patience: float = PATIENCE_SECONDS) -> None:
    """Delete these jobs with all their tasks; jobs that are already gone count as deleted.

    Raises Refused with the reasons if some could not be deleted, and Unreachable.
    """
    jobs = list(jobs)
    if not jobs:
        return
    said = answer("qdel", *jobs, patience=patience)
    if said.status != 0 and (reasons := read_refusals(said.output)):
        raise Refused("; ".join(reasons))


def read_refusals(output: str) -> list[str]:
    """Return the lines of qdel that are about jobs neither deleted nor already gone."""
    fine = re.compile(r"has (?:deleted|registered)|does not exist|is already in deletion")
    return [line.strip() for line in output.splitlines() if line.strip() and not fine.search(line)]


def copy(id: str, avoid: Sequence[str] = ()) -> str:
    """Submit a copy of a job with all its requests, away from the hosts to `avoid`; returns its id.

    Jobs that wait for the old job then wait for the copy, in addition to whatever else they wait for; a job that this
    user may not alter is named and left unchanged. The old job is not changed, and jobs held by -hold_jid_ad stay with
    it. The copy is submitted on hold and released at the end. If something fails in between, the waiting jobs wait for
    the old job again and the copy is deleted; if that fails too, it is named. Raises Refused and Unreachable.
    """
    new = first_id(
        r"^Your job(?:-array)? (\d+)",
        "qresub",
        order(f"a copy of job {id} may exist, on hold; see qstat, and qdel it", "qresub", "-h", "u", id),
    )
    release(new, avoid, id)
    return new


def release(id: str, avoid: Sequence[str], old: str | None = None) -> None:
    """Release a job that was submitted on hold: away from the hosts to `avoid`, and in place of job `old`.

    If something fails, the job is deleted; see take_back.
    """
    held_before: dict[str, list[str]] = {}
    try:
        if avoid:
            keep_off(id, avoid)
        if old:
            move_waiting(old, id, held_before)
        ask("qrls", id)
    except BaseException:
        take_back(id, held_before)
        raise


def keep_off(id: str, hosts: Sequence[str]) -> None:
    """Alter a job's request so that it excludes these hosts."""
    copied = job(id)
    if copied is None:
        raise Refused(f"job {id} does not exist")
    request = {**copied.request, "hostname": avoiding(copied.request.get("hostname", ""), hosts)}
    # -l replaces the whole hard request; the soft one is not changed.
    ask("qalter", "-l", ",".join(f"{name}={value}" if value else name for name, value in request.items()), id)


def avoiding(asked: str, hosts: Iterable[str]) -> str:
    """Return a request for `hostname` that adds the exclusion of these hosts: `(asked)&!(a|b)`."""
    before = AVOIDED.fullmatch(asked)
    if before and balanced(before["asked"] or ""):
        asked, hosts = before["asked"] or "", [*before["hosts"].split("|"), *hosts]
    excluded = f"!({'|'.join(dict.fromkeys(hosts))})"
    return f"({asked})&{excluded}" if asked else excluded


def balanced(expression: str) -> bool:
    """Whether each parenthesis opens before it closes: `x)|(y` is not an expression of its own."""
    depth = 0
    for letter in expression:
        depth += (letter == "(") - (letter == ")")
        if depth < 0:
            return False
    return depth == 0


def move_waiting(old: str, new: str, held_before: dict[str, list[str]]) -> None:
    """Make the jobs that wait for `old` wait for `new` instead; `held_before` gets what each waited for."""
    ended = job(old)
    for id in ended.waiting if ended else ():
        waiting = job(id)
        if waiting is None or old not in waiting.hold:
            continue
        held_before[id] = waiting.hold
        try:
            hold(id, [new if other == old else other for other in waiting.hold])
        except Refused as refusal:
            del held_before[id]
            say(f"job {id} of {waiting.owner} still waits for job {old}, not for its copy {new}: {refusal}")


def hold(id: str, jobs: Iterable[str], patience: float = PATIENCE_SECONDS) -> None:
    """Make a job wait for these jobs and no others."""
    ask("qalter", "-hold_jid", ",".join(dict.fromkeys(jobs)), id, patience=patience)


def take_back(new: str, held_before: dict[str, list[str]]) -> None:
    """Delete a job that was not released. Jobs moved to it wait for the old job again."""
    try:
        for id, jobs in held_before.items():
            hold(id, jobs, patience=0)
        delete([new], patience=0)
    except Failure as failure:
        say(f"job {new} could not be deleted and may be on hold; qrls or qdel it: {failure}")


# ---- queries


def job(id: str, patience: float = PATIENCE_SECONDS) -> Job | None:
    """Return a job as the qmaster knows it; None if it is gone or not known yet. Raises Unreachable, Refused."""
    return read_job(ask("qstat", "-j", id, "-xml", patience=patience))


def tasks(user: str | None = None, patience: float = PATIENCE_SECONDS) -> list[Task]:
    """Return what qstat lists of a user's jobs ("*": all users), by default one's own. Raises Unreachable, Refused."""
    return read_tasks(ask("qstat", "-xml", *(["-u", user] if user else []), patience=patience))


def free_slots(allowed: Sequence[str] = (), patience: float = PATIENCE_SECONDS) -> str:
    """Return the free slots of each queue: `all.q 3 of 16, short.q 16 of 16`. Raises Unreachable, Refused.

    `allowed` are names or patterns as in qsub -q, whose part after @ does not count; if empty, all queues do.
    """
    patterns = [name.partition("@")[0] for name in allowed] or ["*"]
    queues = read_free(ask("qstat", "-g", "c", "-xml", patience=patience))
    shown = {name: of for name, of in queues.items() if any(fnmatch.fnmatchcase(name, one) for one in patterns)}
    return ", ".join(f"{name} {free} of {total}" for name, (free, total) in shown.items())


def asked_queues(arguments: Sequence[str]) -> list[str]:
    """Return the queues that qsub would ask for with these arguments and the defaults of the site, the user and the
    folder (sge_request); empty for all. Raises Unreachable, Refused.
    """
    shown = read_settings(ask("qsub", "-verify", *arguments).replace(":", " "))
    return [name for name in shown.get("hard_queue_list", "").split(",") if name]


def all_slots(queues: Sequence[str], pe: str = "") -> int:
    """Return the slots, taken ones too, of the queues that fit these patterns of qsub -q (all if empty), and that have
    a parallel environment. Raises Unreachable, Refused.
    """
    which = [*(["-q", ",".join(queues)] if queues else []), *(["-pe", pe] if pe else [])]
    said = answer("qstat", "-f", "-xml", *which)
    if said.status != 0:  # how qstat says that none fits
        return 0
    return sum(int(queue.findtext("slots_total") or 0) for queue in parsed(said.output).iter("Queue-List"))


def limits(request: Mapping[str, str], queues: Iterable[str]) -> list[int]:
    """Return the seconds of each h_rt and s_rt of a request (see Job.request) and of queues, all.q or all.q@HOST.

    A queue without a host has the limits of all its hosts. Raises Unreachable, Refused.
    """
    found = [request.get(name, "") for name in ("h_rt", "s_rt")]
    for queue in dict.fromkeys(queues):
        settings = read_settings(ask("qconf", "-sq", queue))
        found += [settings.get(name, "") for name in ("h_rt", "s_rt")]
    return [number for text in found for number in read_seconds(text)]


def environments() -> dict[str, dict[str, str]]:
    """Return the settings of each parallel environment, by name: allocation_rule, control_slaves and others."""
    names = listed("qconf", "-spl", none="no parallel environment")
    return {name: read_settings(ask("qconf", "-sp", name)) for name in names}


def queues_with(pe: str) -> list[str]:
    """Return the queues, all.q@HOST, with this parallel environment. Raises Unreachable; Refused if it is unknown."""
    return listed("qselect", "-pe", pe, none="no queues remaining")


def listed(program: str, *arguments: str, none: str) -> list[str]:
    """Return what a client lists, one word per line; nothing if it prints the message `none`."""
    said = answer(program, *arguments)
    return [] if said.status != 0 and none in said.words else accepted(program, said).split()


def complexes() -> dict[str, Complex]:
    """Return the resources of the site by name. Raises Unreachable, Refused."""
    return read_complexes(ask("qconf", "-sc"))


def submit_hosts() -> set[str]:
    """Return the hosts that may submit jobs. Raises Unreachable, Refused."""
    return set(listed("qconf", "-ss", none="no submit host"))


def execution_hosts() -> set[str]:
    """Return the hosts that run jobs. Raises Unreachable, Refused."""
    return set(listed("qconf", "-sel", none="no execution host"))


def hosts_xml(hosts: Iterable[str] = ()) -> bytes:
    """Return the output of `qhost -q -F -xml` for these hosts (all if empty), for grid.read_qhost.

    Raises Unreachable, and Refused if a host is unknown.
    """
    hosts = list(hosts)
    return ask("qhost", "-q", "-F", "-xml", *(["-h", ",".join(hosts)] if hosts else [])).encode()


# ---- reading the output of clients


def parsed(xml: str) -> ET.Element:
    """Return the root of the XML that a client prints; raises Refused if it is not valid.

    Grid Engine copies jobs' variables unchanged, and XML does not allow the escape character.
    """
    try:
        return ET.fromstring(UNFIT_FOR_XML.sub("\ufffd", xml))
    except ET.ParseError as error:
        raise Refused(f"Grid Engine printed XML that cannot be read: {error}") from None


def read_job(output: str) -> Job | None:
    """Return the job of `qstat -j ID -xml`; None if the qmaster does not know it."""
    root = parsed(output)
    if root.tag == "unknown_jobs":
        return None
    shown = root.find("djob_info/element")
    if shown is None or not shown.findtext("JB_job_number"):
        raise Refused(f"qstat printed no job: <{root.tag}>")

    def texts(*paths: str) -> list[str]:
        return list(dict.fromkeys(found.text for path in paths for found in root.iterfind(path) if found.text))

    def text(name: str) -> str:
        return shown.findtext(name) or ""

    job = "djob_info/element[1]"
    return Job(
        id=text("JB_job_number"),
        name=text("JB_job_name"),
        owner=text("JB_owner"),
        request={
            resource.findtext("CE_name"): resource.findtext("CE_stringval") or ""
            for resource in shown.iterfind("JB_hard_resource_list/*")
        },
        queues=texts(f"{job}/JB_hard_queue_list/*/QR_name"),
        hold=texts(f"{job}/JB_jid_predecessor_list/*/JRE_job_number"),
        waiting=texts(f"{job}/JB_jid_successor_list/*/JRE_job_number"),
        errors=list(dict.fromkeys(map(without_time, texts(f"{job}/JB_ja_tasks/*/JAT_message_list/*/QIM_message")))),
        messages=texts(
            "messages/element/SME_message_list/element/MES_message",
            "messages/element/SME_global_message_list/element/MES_message",
        ),
        pe=text("JB_pe"),
        slots=",".join(map(read_range, shown.iterfind("JB_pe_range/ranges"))),
        log=shown.findtext("JB_stdout_path_list/*/PN_path") or "",
    )


def without_time(reason: str) -> str:
    """Remove time and process from an error reason, so that all tasks of an array job have the same one."""
    return re.sub(r"^\d\S* \d\S* \[\d+:\d+\]: ", "", reason)


def read_range(ranges: ET.Element) -> str:
    """Return a range of slots as in qsub -pe."""
    least, most = ranges.findtext("RN_min") or "", ranges.findtext("RN_max") or ""
    return least if least == most else f"{least}-{most}"


def read_tasks(output: str) -> list[Task]:
    """Return the lines of `qstat -xml`, running jobs first."""
    return [
        Task(
            id=line.findtext("JB_job_number") or "",
            task=line.findtext("tasks") or "",
            state=line.findtext("state") or "",
            queue=line.findtext("queue_name") or "",
            slots=int(line.findtext("slots") or 0),
            name=line.findtext("JB_name") or "",
            owner=line.findtext("JB_owner") or "",
        )
        for line in parsed(output).iter("job_list")
    ]


def read_free(output: str) -> dict[str, tuple[int, int]]:
    """Return the free and the total slots of each queue, by name, from `qstat -g c -xml`."""
    return {
        queue.findtext("name") or "": (int(queue.findtext("available") or 0), int(queue.findtext("total") or 0))
        for queue in parsed(output).iter("cluster_queue_summary")
    }


def read_settings(output: str) -> dict[str, str]:
    """Return the `name value` lines of qconf; a backslash at the end of a line continues it."""
    lines = re.sub(r"\s*\\\n\s*", " ", output).splitlines()
    return {name: value.strip() for name, _, value in (line.partition(" ") for line in lines) if name}


def read_seconds(value: str) -> list[int]:
    """Return the seconds of each time in a setting such as `0:10:0,[node1=300]`; INFINITY is skipped."""
    found = []
    for word in re.split(r"[\s,=\[\]]+", value):
        if re.fullmatch(r"\d*(?::\d*){0,2}", word) and word.strip(":"):
            parts = [int(part or 0) for part in word.split(":")]
            found.append(sum(part * 60**power for power, part in enumerate(reversed(parts))))
    return found


def read_complexes(output: str) -> dict[str, Complex]:
    """Return the lines of `qconf -sc` by name."""
    lines = (line.split() for line in output.splitlines() if line.strip() and not line.startswith("#"))
    return {name: Complex(*values[:5]) for name, *values in lines}
