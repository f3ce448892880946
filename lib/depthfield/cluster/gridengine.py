"""Asks Grid Engine by its client programs: qstat, qsub, qalter, qconf and the others.

No other module starts them. A qmaster that does not answer (Unreachable) is told from one that says no (Refused),
whatever the exit status: `qstat -j ID -xml` ends with status 0 where no packet reached the qmaster.
"""

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

PATIENCE_SECONDS = 300  # a qmaster that is restarted, or replaced by its shadow, is back within minutes
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.5, 15
CALL_SECONDS = 30  # then a client counts as one without an answer: a hung qmaster is waited for without end
QUICK_SECONDS = 5
ORDER_SECONDS = 300  # for what must not run twice: cut off in its midst, qsub took 63 s to succeed, or 183 s to fail
NO_ANSWER = re.compile(
    "commlib error|comunication_error|unable to (?:contact|send message to|connect to) |can't connect"
    "|got (?:send|select|read|message acknowledge) error|failed (?:sending|receiving) gdi request|timeout error"
    "|general error .* gdi request|unable to read qmaster name",
    re.IGNORECASE,
)
USAGE = re.compile(r"^SGE \S+\nusage:.*?(?=^error:)", re.MULTILINE | re.DOTALL)  # what qhost says before its error
UNFIT_FOR_XML = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f]")
AVOIDED = re.compile(r"(?:\((?P<asked>.*)\)&)?!\((?P<hosts>[\w.|-]+)\)")  # as `avoiding` writes it


class Unreachable(Failure):
    """The qmaster does not answer, after all patience."""


class Refused(Failure):
    """The qmaster, or its client, says no; the text is its own words on one line."""


class Answer(NamedTuple):
    """What a client says where the qmaster answered it."""

    status: int
    output: str
    words: str  # its stdout and stderr on one line


class Job(NamedTuple):
    """A job as `qstat -j` shows it."""

    id: str
    name: str
    owner: str
    request: dict[str, str]  # hard resources, as in qsub -l; times in seconds: h_rt is "300"
    queues: list[str]  # the hard queue list, as in qsub -q
    hold: list[str]  # ids of jobs it waits for, and that have not ended
    waiting: list[str]  # ids of jobs that wait for it
    errors: list[str]  # why it is in the error state, each reason once
    messages: list[str]  # why the scheduler leaves it waiting: its own reasons, then those of the whole grid
    pe: str  # parallel environment, or ""
    slots: str  # asked for, as in qsub -pe: "6", "2-8"; "" without a parallel environment


class Task(NamedTuple):
    """A line of qstat: a job, a running task of an array job, or its tasks still to come."""

    id: str
    task: str  # "3", "5-9:2"; "" where the job is no array job
    state: str  # "qw", "hqw", "t", "r", "dr", "Eqw", "Rq" ...
    queue: str  # all.q@node1.grid.test; "" where it waits
    slots: int
    name: str
    owner: str


class Complex(NamedTuple):
    """A resource that jobs may ask for, in the words of `qconf -sc`."""

    shortcut: str
    type: str  # MEMORY, INT, TIME, BOOL, STRING ...
    relop: str  # <=, ==, >= ...
    requestable: str  # YES, NO, FORCED
    consumable: str  # YES (a slot), JOB, NO


# ---- asking


def present() -> bool:
    """Whether a client is installed that knows of a qmaster."""
    cell = Path(os.environ.get("SGE_ROOT") or "/var/lib/gridengine") / (os.environ.get("SGE_CELL") or "default")
    try:
        return shutil.which("qsub") is not None and bool((cell / "common/act_qmaster").read_text().strip())
    except OSError:
        return False


def ask(program: str, *arguments: str, patience: float = PATIENCE_SECONDS) -> str:
    """What a client prints on stdout; a qmaster that does not answer is asked again until `patience` seconds are over.

    A patience of 0 is one try. Each try has up to CALL_SECONDS, the last one beyond `patience`. Only for what may be
    done twice. Raises Unreachable where no answer came, Refused where the client ends with another status than 0.
    """
    return accepted(program, answer(program, *arguments, patience=patience))


def accepted(program: str, said: Answer) -> str:
    """The output of a client that did what it was asked to; raises Refused for another."""
    if said.status != 0:
        raise Refused(said.words or f"{program} ended with status {said.status} and no message")
    return said.output


def answer(program: str, *arguments: str, patience: float = PATIENCE_SECONDS) -> Answer:
    """As `ask`, for what says more than yes or no; raises Unreachable only."""
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
                say(f"{silence}; trying again for {patience:.0f} s")
        time.sleep(min(pause, left))
        pause = min(2 * pause, LONGEST_PAUSE_SECONDS)


def call(program: str, *arguments: str, seconds: float) -> Answer:
    """Run a client once, for up to `seconds`; raises Unreachable where no answer came, Failure where it is missing."""
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
        raise Failure(f"{program}: command not found; Grid Engine's clients are expected on PATH") from None
    words = one_line(f"{done.stdout}\n{done.stderr}")
    failed = done.returncode != 0 or not done.stdout.strip()
    if failed and NO_ANSWER.search(words):
        raise Unreachable(f"the qmaster does not answer: {words}")
    if done.returncode == 0 and "-xml" in arguments and (why := unfinished(done.stdout)):
        raise Unreachable(f"the qmaster does not answer: {program} {why}")
    return Answer(done.returncode, done.stdout, words)


def unfinished(xml: str) -> str:
    """Why this is not the whole of an answer in XML, or ""."""
    root = re.match(r"\s*<\?xml[^>]*\?>\s*<([\w.-]+)", xml)
    if not root:
        return "printed no XML"
    if root[1] == "comunication_error":  # as Grid Engine spells it
        return f"printed {one_line(parsed(xml).findtext('AN_text') or root[1])}"
    return "" if xml.rstrip().endswith(f"</{root[1]}>") else "printed XML that breaks off"


def one_line(text: str) -> str:
    """What a client said, on one line, without its usage and its good-bye."""
    return " ".join(USAGE.sub("", text).split()).removesuffix(" Exiting.")


def reachable() -> bool:
    """Whether the qmaster answers now, be it by a refusal; takes QUICK_SECONDS at most."""
    try:
        call("qconf", "-sss", seconds=QUICK_SECONDS)
    except Unreachable:
        return False
    return True


# ---- orders


def submit(arguments: Sequence[str], avoid: Sequence[str] = ()) -> str:
    """Submit a job by `qsub -terse ARGUMENTS`; returns its id, `123` for an array job `123.1-4:1` too.

    With hosts to `avoid` the job is made on hold, altered to run on none of them beside all that is asked for it, and
    released. Where that fails it is deleted, or, where that fails too, named.

    A job is never submitted twice. The qmaster is first asked a harmless question with all patience, then qsub runs
    once: its errors do not tell an order that was never sent from one whose answer got lost. Raises Refused, or
    Unreachable, which says where the job may exist.
    """
    held = ["-h"] if avoid else []
    output = order("the job may have been submitted all the same, see qstat", "qsub", "-terse", *held, *arguments)
    new = first_id(r"^(\d+)(?:\.\S*)?\s*$", "qsub", output)
    if avoid:
        release(new, avoid)
    return new


def order(warning: str, program: str, *arguments: str) -> str:
    """Run, once, a client that must not run twice; where its answer is lost, the `warning` says what that may mean."""
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
    """Delete these jobs, their waiting and their running tasks; those that are gone already count as deleted.

    Raises Refused with the reasons where some could not be deleted, and Unreachable.
    """
    jobs = list(jobs)
    if not jobs:
        return
    said = answer("qdel", *jobs, patience=patience)
    if said.status != 0 and (reasons := read_refusals(said.output)):
        raise Refused("; ".join(reasons))


def read_refusals(output: str) -> list[str]:
    """The lines of qdel that are neither of a deleted job nor of one that is gone already."""
    fine = re.compile(r"has (?:deleted|registered)|does not exist|is already in deletion")
    return [line.strip() for line in output.splitlines() if line.strip() and not fine.search(line)]


def copy(id: str, avoid: Sequence[str] = ()) -> str:
    """Put a copy in the place of a job, with all that was asked for it, away from the hosts to `avoid`; returns its id.

    Jobs that wait for the old job wait for the copy then, beside whatever else they wait for; where this user may not
    alter one, that is said, and it is left as it is. The old job is left as it is too. Jobs held by -hold_jid_ad stay
    with the old one. The copy is made on hold and released at the end; where something fails in between, the waiting
    jobs are given back and the copy is deleted, or, where that fails too, named. Raises Refused and Unreachable.
    """
    new = first_id(
        r"^Your job(?:-array)? (\d+)",
        "qresub",
        order(f"a copy of job {id} may exist, on hold: see qstat, and qdel it", "qresub", "-h", "u", id),
    )
    release(new, avoid, id)
    return new


def release(id: str, avoid: Sequence[str], old: str | None = None) -> None:
    """Release a job that was made on hold: away from the hosts to `avoid`, and waited for in the place of job `old`.

    Where something fails in between, the job is deleted; see take_back.
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
    """Alter a job's request so that it runs on none of these hosts."""
    copied = job(id)
    if copied is None:
        raise Refused(f"job {id} does not exist")
    request = {**copied.request, "hostname": avoiding(copied.request.get("hostname", ""), hosts)}
    # -l takes the place of the whole hard request; the soft one stays as it is.
    ask("qalter", "-l", ",".join(f"{name}={value}" if value else name for name, value in request.items()), id)


def avoiding(asked: str, hosts: Iterable[str]) -> str:
    """A request for `hostname` that excludes these hosts beside what is asked already: `(asked)&!(a|b)`."""
    before = AVOIDED.fullmatch(asked)
    if before and balanced(before["asked"] or ""):
        asked, hosts = before["asked"] or "", [*before["hosts"].split("|"), *hosts]
    excluded = f"!({'|'.join(dict.fromkeys(hosts))})"
    return f"({asked})&{excluded}" if asked else excluded


def balanced(expression: str) -> bool:
    """Whether no parenthesis closes before it opens: `x)|(y` is no expression of its own."""
    depth = 0
    for letter in expression:
        depth += (letter == "(") - (letter == ")")
        if depth < 0:
            return False
    return depth == 0


def move_waiting(old: str, new: str, held_before: dict[str, list[str]]) -> None:
    """Let the jobs that wait for `old` wait for `new` instead; notes in `held_before` what each waited for."""
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
    """Let a job wait for these jobs, and no others."""
    ask("qalter", "-hold_jid", ",".join(dict.fromkeys(jobs)), id, patience=patience)


def take_back(new: str, held_before: dict[str, list[str]]) -> None:
    """Delete a job that was not released. What was moved to it waits for the old job again, lest this end start it."""
    try:
        for id, jobs in held_before.items():
            hold(id, jobs, patience=0)
        delete([new], patience=0)
    except Failure as failure:
        say(f"job {new} is left behind, and may be on hold; qrls or qdel it: {failure}")


# ---- questions


def job(id: str, patience: float = PATIENCE_SECONDS) -> Job | None:
    """A job as the qmaster knows it; None where it knows it no longer, or not yet. Raises Unreachable, Refused."""
    return read_job(ask("qstat", "-j", id, "-xml", patience=patience))


def tasks(user: str | None = None, patience: float = PATIENCE_SECONDS) -> list[Task]:
    """What qstat lists of a user's jobs ("*": of all), by default of one's own. Raises Unreachable, Refused."""
    return read_tasks(ask("qstat", "-xml", *(["-u", user] if user else []), patience=patience))


def free_slots(patience: float = PATIENCE_SECONDS) -> str:
    """The free slots of each queue: `all.q 3 of 16, short.q 16 of 16`. Raises Unreachable, Refused."""
    queues = read_free(ask("qstat", "-g", "c", "-xml", patience=patience))
    return ", ".join(f"{name} {free} of {total}" for name, (free, total) in queues.items())


def limits(request: Mapping[str, str], queues: Iterable[str]) -> list[int]:
    """The seconds of every h_rt and s_rt of a request, as Job.request is one, and of queues, all.q or all.q@HOST.

    A queue as a whole has the limits of all its hosts. Raises Unreachable, Refused.
    """
    found = [request.get(name, "") for name in ("h_rt", "s_rt")]
    for queue in dict.fromkeys(queues):
        settings = read_settings(ask("qconf", "-sq", queue))
        found += [settings.get(name, "") for name in ("h_rt", "s_rt")]
    return [number for text in found for number in read_seconds(text)]


def environments() -> dict[str, dict[str, str]]:
    """The settings of each parallel environment, by name: allocation_rule, control_slaves and others."""
    names = listed("qconf", "-spl", none="no parallel environment")
    return {name: read_settings(ask("qconf", "-sp", name)) for name in names}


def queues_with(pe: str) -> list[str]:
    """The queues, all.q@HOST, that have this parallel environment. Raises Unreachable; Refused for an unknown one."""
    return listed("qselect", "-pe", pe, none="no queues remaining")


def listed(program: str, *arguments: str, none: str) -> list[str]:
    """What a client lists, a word a line; nothing where it says that there are `none`."""
    said = answer(program, *arguments)
    return [] if said.status != 0 and none in said.words else accepted(program, said).split()


def complexes() -> dict[str, Complex]:
    """The resources that the site has, by name. Raises Unreachable, Refused."""
    return read_complexes(ask("qconf", "-sc"))


def submit_hosts() -> set[str]:
    """The hosts that may submit jobs. Raises Unreachable, Refused."""
    return set(listed("qconf", "-ss", none="no submit host"))


def execution_hosts() -> set[str]:
    """The hosts that run jobs. Raises Unreachable, Refused."""
    return set(listed("qconf", "-sel", none="no execution host"))


def hosts_xml(hosts: Iterable[str] = ()) -> bytes:
    """What `qhost -q -F -xml` prints of these hosts (without any: of all), for grid.read_qhost.

    Raises Unreachable, and Refused where a host is unknown.
    """
    hosts = list(hosts)
    return ask("qhost", "-q", "-F", "-xml", *(["-h", ",".join(hosts)] if hosts else [])).encode()


# ---- what the clients print


def parsed(xml: str) -> ET.Element:
    """The root of what a client prints with -xml; raises Refused for what is no XML.

    Grid Engine copies jobs' variables as they are, and XML knows no escape character.
    """
    try:
        return ET.fromstring(UNFIT_FOR_XML.sub("\ufffd", xml))
    except ET.ParseError as error:
        raise Refused(f"Grid Engine printed XML that cannot be read: {error}") from None


def read_job(output: str) -> Job | None:
    """The job of `qstat -j ID -xml`; None where the qmaster does not know it."""
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
    )


def without_time(reason: str) -> str:
    """An error reason without its time and process: each task of an array job has the same one."""
    return re.sub(r"^\d\S* \d\S* \[\d+:\d+\]: ", "", reason)


def read_range(ranges: ET.Element) -> str:
    """A range of slots as in qsub -pe."""
    least, most = ranges.findtext("RN_min") or "", ranges.findtext("RN_max") or ""
    return least if least == most else f"{least}-{most}"


def read_tasks(output: str) -> list[Task]:
    """The lines of `qstat -xml`, running ones first."""
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
    """The free slots and all slots of each queue, by name, of `qstat -g c -xml`."""
    return {
        queue.findtext("name") or "": (int(queue.findtext("available") or 0), int(queue.findtext("total") or 0))
        for queue in parsed(output).iter("cluster_queue_summary")
    }


def read_settings(output: str) -> dict[str, str]:
    """The `name value` lines of qconf; a backslash at the end of a line joins the next one to it."""
    lines = re.sub(r"\s*\\\n\s*", " ", output).splitlines()
    return {name: value.strip() for name, _, value in (line.partition(" ") for line in lines) if name}


def read_seconds(value: str) -> list[int]:
    """The seconds of each time in a setting, `0:10:0,[node1=300]`; INFINITY is none."""
    found = []
    for word in re.split(r"[\s,=\[\]]+", value):
        if re.fullmatch(r"\d*(?::\d*){0,2}", word) and word.strip(":"):
            parts = [int(part or 0) for part in word.split(":")]
            found.append(sum(part * 60**power for power, part in enumerate(reversed(parts))))
    return found


def read_complexes(output: str) -> dict[str, Complex]:
    """The lines of `qconf -sc`, by name."""
    lines = (line.split() for line in output.splitlines() if line.strip() and not line.startswith("#"))
    return {name: Complex(*values[:5]) for name, *values in lines}
