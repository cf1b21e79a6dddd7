"""The memory of a server's processes, as the kernel tells it."""

import os
import re


def mapped(pid):
    """Kilobytes of a process by kind, as the kernel names them."""
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
        return {name: int(size) for name, size in re.findall(r"^(\w+):\s+(\d+) kB", file.read(), flags=re.M)}


def memory(pid):
    """Megabytes of a process: private, and its share of what is shared (PSS)."""
    sizes = mapped(pid)
    return (sizes["Private_Clean"] + sizes["Private_Dirty"]) / 1024, sizes["Pss"] / 1024


def anonymous(pid):
    """Bytes of a process' own memory: what is not a file and not shared. (Shared buffers that no other
    process has touched count as private, so what is private grows with the table.)"""
    return mapped(pid)["Anonymous"] * 1024


def address_space(pid):
    """Bytes of address space of a process."""
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        return int(re.search(r"^VmSize:\s+(\d+) kB", file.read(), re.M)[1]) * 1024


def threads(pid):
    """The ids of a process' threads."""
    return os.listdir(f"/proc/{pid}/task")
