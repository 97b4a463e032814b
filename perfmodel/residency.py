"""Resident blocks of a kernel on a multiprocessor, and its occupancy.

A multiprocessor holds as many blocks as its threads, warps, block slots, registers and shared memory allow; the smallest
of these numbers counts. Resources are allocated in units:

- threads: a block gets whole warps.
- registers: a warp gets registers per thread x 32, rounded up to the register unit. The register file is divided into
  equal partitions, and a warp lies in one of them. So a partition holds floor(its registers / registers of a warp) warps.
- shared memory: a block gets what it asks for plus the reserve of the system, rounded up to the shared unit. The reserve
  is the shared memory of the multiprocessor minus the most that one block may have (1 KiB from compute capability 8.0).

Occupancy is resident warps / most resident warps. The rules are those of ``cuda_occupancy.h`` in the CUDA toolkit, with
the largest configuration of shared memory. Clusters of blocks and named barriers are not considered.
"""

from __future__ import annotations

import os
from functools import lru_cache
from typing import NamedTuple

from perfmodel.errors import InputError, shown
from perfmodel.figures import Figure, figure, source
from perfmodel.hardware import Gpu
from perfmodel.paths import PACKAGED, label
from perfmodel.specfile import load
from perfmodel.units import Gate, quantity_from_text, size_from_text

RULES = os.path.join(PACKAGED, "hardware", "capabilities", "nvidia.yaml")
REGISTER_BYTE = 4
UNITS = {"register_unit": "count", "register_partitions": "count", "registers_per_thread": "count", "shared_unit": "B"}
NEEDED = ("registers", "shared_memory", "shared_memory_per_block", "threads", "warps", "blocks", "threads_per_block", "warp")  # fmt: skip
WHERE = "perfmodel occupancy"


class Limit(NamedTuple):
    """A resource: what a multiprocessor has, what is allocated to one block, and how many blocks it admits."""

    name: str
    multiprocessor: int
    block: int
    blocks: int


class Occupancy(NamedTuple):
    """Resident blocks of a kernel on one multiprocessor, and what limits them.

    ``threads`` and ``shared_byte`` are those of one block, ``registers`` those of one thread. ``occupancy`` is resident
    warps divided by the most that a multiprocessor holds. ``resident_blocks``, ``active_threads`` and ``most_threads`` count
    the whole card.
    ``more_registers`` and ``more_shared_byte`` are the largest values with which one more block fits, of the resources
    that limit; both are None where threads or block slots limit, or where no value suffices.
    """

    gpu: Gpu
    threads: int
    registers: int
    shared_byte: int
    limits: tuple[Limit, ...]
    blocks: int
    warps: int
    occupancy: float
    limited_by: tuple[str, ...]
    resident_blocks: int
    active_threads: int
    most_threads: int
    more_registers: int | None
    more_shared_byte: int | None
    because: str


class Rules(NamedTuple):
    """Units of allocation. ``reserve_byte`` is the shared memory of each block that the system keeps."""

    register_unit: int
    register_partitions: int
    registers_per_thread: int
    shared_unit: int
    reserve_byte: int
    file: str

    @property
    def sentence(self) -> str:
        """The rules in words."""
        reserve = f", of which {self.reserve_byte:,} B per block are reserved" if self.reserve_byte else ""
        return (
            f"A warp gets registers in units of {self.register_unit}, from one of {self.register_partitions} partitions. "
            f"A block gets shared memory in units of {self.shared_unit} B{reserve} ({label(self.file)})."
        )


def occupancy(gpu: Gpu, threads: int, registers: int, shared_byte: int = 0) -> Occupancy:
    """Returns the resident blocks of a kernel; raises InputError if a block of it cannot be launched."""
    rules = _rules(gpu)
    _check(gpu, rules, threads, registers, shared_byte)
    limits = _limits(gpu, rules, threads, registers, shared_byte)
    blocks = min(limit.blocks for limit in limits)
    if blocks == 0:
        most = next(r for r in range(registers, 0, -1) if _register_blocks(gpu, rules, threads, r))
        raise InputError(
            f"{WHERE}: --registers {registers}", f"{threads} threads exceed the registers of a block",
            f"at most {most} registers per thread are accepted with {threads} threads", "Use fewer registers or threads.",
        )  # fmt: skip
    warps = blocks * _ceil(threads, _of(gpu, "warp"))
    found = tuple(limit.name for limit in limits if limit.blocks == blocks)
    more = _more(gpu, rules, threads, registers, shared_byte, found, blocks + 1)
    count = int(gpu.multiprocessors.value)
    return Occupancy(
        gpu, threads, registers, shared_byte, limits, blocks, warps, warps / _of(gpu, "warps"), found,
        count * blocks, count * blocks * threads, count * _of(gpu, "threads"), *more, rules.sentence,
    )  # fmt: skip


def shared_from_text(text: str) -> int:
    """Reads a number of bytes: 0, 49152, 48Ki or 48 KiB."""
    where = f"{WHERE}: --shared"
    if text.strip() == "0":
        return 0
    if not text.strip().endswith("B"):
        return size_from_text(text, where)
    value = quantity_from_text(text, "B", where)
    if not value.is_integer():
        raise InputError(where, f"{shown(text)} is not a whole number of bytes", "49152, 48Ki or '48 KiB' is accepted")
    return int(value)


def _limits(gpu: Gpu, rules: Rules, threads: int, registers: int, shared_byte: int) -> tuple[Limit, ...]:
    warps = _ceil(threads, _of(gpu, "warp"))
    shared = _shared(rules, shared_byte)

    def of(name: str, key: str, block: int) -> Limit:
        return Limit(name, _of(gpu, key), block, _of(gpu, key) // block)

    return (
        of("threads", "threads", warps * _of(gpu, "warp")),
        of("warps", "warps", warps),
        of("blocks", "blocks", 1),
        Limit(
            "registers",
            _of(gpu, "registers") // REGISTER_BYTE,
            _warp_registers(gpu, rules, registers) * warps,
            _register_blocks(gpu, rules, threads, registers),
        ),
        *((of("shared memory", "shared_memory", shared),) if shared else ()),
    )


def _ceil(a: int, b: int) -> int:
    return -(-a // b)


def _of(gpu: Gpu, key: str) -> int:
    return int(gpu.multiprocessor[key].value)


def _warp_registers(gpu: Gpu, rules: Rules, registers: int) -> int:
    return _ceil(registers * _of(gpu, "warp"), rules.register_unit) * rules.register_unit


def _register_blocks(gpu: Gpu, rules: Rules, threads: int, registers: int) -> int:
    """Returns the blocks that the register file holds."""
    partition = _of(gpu, "registers") // REGISTER_BYTE // rules.register_partitions
    resident = partition // _warp_registers(gpu, rules, registers) * rules.register_partitions
    return resident // _ceil(threads, _of(gpu, "warp"))


def _shared(rules: Rules, shared_byte: int) -> int:
    return _ceil(shared_byte + rules.reserve_byte, rules.shared_unit) * rules.shared_unit


def _more(
    gpu: Gpu, rules: Rules, threads: int, registers: int, shared_byte: int, limited_by: tuple[str, ...], blocks: int
) -> tuple[int | None, int | None]:
    """Returns the largest registers and shared memory with which so many blocks fit, of the resources that limit."""
    if not set(limited_by) <= {"registers", "shared memory"}:
        return None, None
    fewer: int | None = None
    less: int | None = None
    if "registers" in limited_by:
        fits = (r for r in range(registers, 0, -1) if _register_blocks(gpu, rules, threads, r) >= blocks)
        fewer = next(fits, None)
    if "shared memory" in limited_by:
        each = _of(gpu, "shared_memory") // blocks // rules.shared_unit * rules.shared_unit - rules.reserve_byte
        less = each if each >= 0 else None
    whole = (fewer is not None) + (less is not None) == len(limited_by)
    return (fewer, less) if whole else (None, None)


def _check(gpu: Gpu, rules: Rules, threads: int, registers: int, shared_byte: int) -> None:
    """Refuses what one block or thread cannot have."""
    for option, value, noun, low, high in (
        ("--threads", threads, "threads per block", 1, _of(gpu, "threads_per_block")),
        ("--registers", registers, "registers per thread", 1, rules.registers_per_thread),
        ("--shared", shared_byte, "bytes of shared memory per block", 0, _of(gpu, "shared_memory_per_block")),
    ):
        if not Gate(noun, low, high, whole=True).admits(value):
            raise InputError(
                f"{WHERE}: {option} {value}", f"{gpu.title} does not admit it", f"{low:,} to {high:,} {noun} are accepted",
                f"Change {option}.",
            )  # fmt: skip


def _rules(gpu: Gpu) -> Rules:
    """Returns the rules of a card; raises InputError for a card whose rules or limits are unknown."""
    known, major = _capabilities(), gpu.compute_capability.partition(".")[0]
    if major not in known:
        raise InputError(
            f"{WHERE}: --gpu {gpu.name}",
            f"its compute capability is {gpu.compute_capability}" if major else "it has no compute capability",
            f"NVIDIA GPUs of compute capability {', '.join(f'{one}.x' for one in known)} are accepted",
            "Choose another GPU.",
        )  # fmt: skip
    missing = [key for key in NEEDED if key not in gpu.multiprocessor]
    if missing:
        raise InputError(
            label(gpu.file), f"multiprocessor has no {', '.join(missing)}", "these figures are required for occupancy",
            "Add them.",
        )  # fmt: skip
    own = {key: int(found.value) for key, found in known[major].items()}
    reserve = _of(gpu, "shared_memory") - _of(gpu, "shared_memory_per_block")
    return Rules(reserve_byte=reserve, file=RULES, **own)


@lru_cache(maxsize=1)
def _capabilities() -> dict[str, dict[str, Figure]]:
    """Returns the figures of each major number of a compute capability."""
    page = load(RULES)
    sources = {key: source(page.mapping("sources").mapping(key)) for key in page.mapping("sources")}
    found = {}
    for major in page:
        if major != "sources":
            table = page.mapping(major)
            found[major] = {key: figure(table, key, unit, sources) for key, unit in UNITS.items()}
            table.finish()
    page.finish()
    return found
