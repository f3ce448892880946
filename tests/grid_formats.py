"""What Grid Engine 8.1.9 writes of its hosts, for grids of any size: `qhost -q -F -xml` and $PE_HOSTFILE."""

from collections.abc import Iterable

HEAD = (
    "<?xml version='1.0'?>\n<qhost xmlns:xsd=\"http://arc.liv.ac.uk/repos/darcs/sge/source/dist/util/resources/schemas/"
    'qhost/qhost.xsd">\n'
)
ARCH = {"arch_string": "lx-amd64", "num_proc": 16, "m_socket": 1, "m_core": 16, "m_thread": 16, "load_avg": "0.41"}
MEMORY = {"mem_total": "125.7G", "mem_used": "3.2G", "swap_total": "8.0G", "swap_used": "0.0"}
UNKNOWN = dict.fromkeys(ARCH | MEMORY, "-")


def host(name: str, resources: dict, queues: dict, values: dict | None = None) -> str:
    """A host of qhost's output; `queues` by name: slots, those in use, those reserved, state."""
    lines = [f" <host name='{name}'>"]
    for key, value in (ARCH | MEMORY if values is None else values).items():
        lines.append(f"   <hostvalue name='{key}'>{value}</hostvalue>")
    for key, value in resources.items():
        lines.append(f"   <resourcevalue name='{key}' dominance='hl'>{value}</resourcevalue>")
    for queue, (slots, used, reserved, state) in queues.items():
        told = {"slots_used": used, "slots": slots, "slots_resv": reserved, "state_string": state}
        lines.append(f" <queue name='{queue}'>")
        for key, value in ({"qtype_string": "BIP"} | told).items():
            lines.append(f"   <queuevalue qname='{queue}' name='{key}'>{value}</queuevalue>")
        lines.append(" </queue>")
    return "\n".join([*lines, " </host>\n"])


def qhost(hosts: Iterable[str]) -> str:
    return "".join([HEAD, host("global", {}, {}, UNKNOWN), *hosts, "</qhost>\n"])


def large(hosts: int, resources: int = 40) -> tuple[str, str]:
    """A grid's qhost output, each host with so many resource values, and the host file of a job on all of its hosts."""
    many = {f"complex_{number}": f"{number}.000000" for number in range(resources - 3)}
    many |= {"mem_free": "121.9G", "mem_total": "125.7G", "gpu": "2.000000"}
    names = [f"node{number}.grid.test" for number in range(hosts)]
    shown = qhost(host(name, many, {"all.q": (16, 4, 0, "")}) for name in names)
    return shown, "".join(f"{name} 12 all.q@{name} UNDEFINED\n" for name in names)
