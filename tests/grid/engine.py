"""A Grid Engine on the sandbox's hosts: its folders, its settings and its daemons."""

import os
import re
import subprocess
from pathlib import Path

import machines
from machines import DOMAIN, GRID

from depthfield import tool

SGE = GRID / "sge"
SPOOL, BINARIES, PACKAGED = SGE / "spool", "/usr/lib/gridengine", Path("/usr/share/gridengine")
ENVIRONMENT = {
    "SGE_ROOT": str(SGE), "SGE_CELL": "grid", "SGE_QMASTER_PORT": "6444", "SGE_EXECD_PORT": "6445",
}  # fmt: skip
PES = {"orte": ("$round_robin", "FALSE"), "tf": ("$fill_up", "TRUE"), "smp": ("$pe_slots", "TRUE")}


def boot(nodes: list[str]) -> None:
    """Make the folders and settings, start the daemons, and wait until every queue takes jobs."""
    common, template = SGE / "grid/common", (PACKAGED / "default-bootstrap").read_text()
    for folder in (common, SPOOL / "qmaster/job_scripts", SPOOL / "execd"):
        folder.mkdir(parents=True)
    (SGE / "util").symlink_to(PACKAGED / "util")
    for name in ("bin", "utilbin", "lib"):
        (SGE / name).mkdir()
        (SGE / name / "lx-amd64").symlink_to(BINARIES)
    (common / "act_qmaster").write_text(f"head.{DOMAIN}\n")
    spooling = {
        "spooling_method": "classic", "spooling_lib": "libspoolc", "spooling_params": f"{common};{SPOOL}/qmaster",
        "qmaster_spool_dir": f"{SPOOL}/qmaster", "binary_path": f"{SGE}/bin",
    }  # fmt: skip
    (common / "sge_request").write_text("-q all.q\n")  # what a job gets that names no queue
    (common / "bootstrap").write_text(edited(template, spooling))
    configuration = {
        "execd_spool_dir": f"{SPOOL}/execd", "load_report_time": "00:00:05", "max_unheard": "00:05:00",
        "reschedule_unknown": "00:00:10", "gid_range": "62000-62999", "administrator_mail": "none",
    }  # fmt: skip
    (SGE / "configuration").write_text(edited((PACKAGED / "default-configuration").read_text(), configuration))
    spool("spoolinit", "classic", "libspoolc", spooling["spooling_params"], "init")
    spool("spooldefaults.bin", "configuration", SGE / "configuration")
    spool("spooldefaults.bin", "complexes", PACKAGED / "util/resources/centry")
    spool("spooldefaults.bin", "usersets", PACKAGED / "util/resources/usersets")
    spool("spooldefaults.bin", "managers", "root", "sgeadmin")
    ask("chown", "-R", "sgeadmin:", SGE)
    start("head")
    machines.wait("the qmaster", answers)
    configure(nodes)
    start(*nodes)
    machines.wait("the nodes", lambda: ask("qstat", "-f").count(" lx-amd64 ") == 2 * len(nodes))


def start(*hosts: str) -> None:
    """Start the daemons of these hosts, all at once: each takes up to two seconds to go into the background."""
    quiet = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
    daemons = {host: "sge_qmaster" if host == "head" else "sge_execd" for host in hosts}
    pids = machines.inits()
    starting = [machines.start(pids[host], [daemon], env=ENVIRONMENT, **quiet) for host, daemon in daemons.items()]
    for process, (host, daemon) in zip(starting, daemons.items(), strict=True):
        if process.wait():
            raise tool.Failure(f"{daemon} does not start on {host}; see {SPOOL} and its /tmp")


def answers() -> bool:
    """Whether the qmaster takes questions."""
    try:
        return bool(ask("qconf", "-sh"))
    except tool.Failure:
        return False


def ask(*command: object) -> str:
    """Run a command as the manager on head; returns what it prints."""
    return machines.run(machines.init_of("head"), *command, **ENVIRONMENT)


def spool(program: str, *arguments: object) -> None:
    ask("env", f"LD_LIBRARY_PATH={BINARIES}", f"{BINARIES}/{program}", *arguments)


def configure(nodes: list[str]) -> None:
    """Hosts, parallel environments, queues and a quick scheduler, as the site's manager sets them."""
    names = [f"{host}.{DOMAIN}" for host in ("head", *nodes)]

    def add(how: str, text: str) -> None:
        file = SGE / "qconf"
        file.write_text(text)
        ask("qconf", how, file)

    ask("qconf", "-ah", ",".join(names))
    ask("qconf", "-as", ",".join(names))
    add("-Ahgrp", f"group_name @allhosts\nhostlist {' '.join(names[1:])}\n")
    pe_template = (PACKAGED / "util/resources/pe/make").read_text()  # of 999 slots, with control_slaves
    for pe, (rule, first) in PES.items():
        changed = {"pe_name": pe, "allocation_rule": rule, "job_is_first_task": first, "accounting_summary": "FALSE"}
        add("-Ap", edited(pe_template, changed))
    every = {
        "hostlist": "@allhosts", "slots": os.environ.get("GRID_SLOTS") or "4", "pe_list": " ".join(PES),
        "shell": "/bin/bash", "shell_start_mode": "unix_behavior", "load_thresholds": "NONE", "notify": "00:00:05",
        "rerun": "TRUE",
    }  # fmt: skip
    template = ask("qconf", "-sq")
    add("-Aq", edited(template, {**every, "qname": "all.q"}))
    add("-Aq", edited(template, {**every, "qname": "short.q", "h_rt": "00:01:30"}))
    changed = {"schedule_interval": "0:0:1", "flush_submit_sec": "1", "flush_finish_sec": "1", "maxujobs": "0"}
    add("-Msconf", edited(ask("qconf", "-ssconf"), changed))


def edited(text: str, changed: dict[str, str]) -> str:
    """Grid Engine's `name value` lines with some of the values changed."""
    for name, value in changed.items():
        text, found = re.subn(rf"(?m)^({re.escape(name)}\s+).*$", rf"\g<1>{value}", text)
        if not found:
            raise tool.Failure(f"Grid Engine has no setting {name}")
    return text
