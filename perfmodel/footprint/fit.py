"""Whether a workload fits on a card, changes that make it fit, and the largest size that fits. Each is computed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from perfmodel.errors import InputError, SizeRangeError
from perfmodel.footprint.account import Account
from perfmodel.footprint.lines import Plan
from perfmodel.footprint.reserve import Reserve
from perfmodel.units import ITEM_BYTES, LARGEST_SIZE
from perfmodel.workload import DTYPE_ROLES

MOST_GPUS = 1024


class Remedy(NamedTuple):
    """A change, the bytes that one GPU then needs, and whether they fit."""

    change: str
    byte_per_gpu: int
    fits: bool


class Verdict(NamedTuple):
    """Whether a workload fits on a card.

    ``reserve_byte`` of the capacity must stay free. ``spare_byte`` is what remains, negative where it does not fit.
    ``remedies`` are the changes that were tried where it does not fit.
    """

    fits: bool
    capacity_byte: int
    reserve_byte: int
    reserve: str
    spare_byte: int
    remedies: tuple[Remedy, ...]


class Solved(NamedTuple):
    """The largest value of a symbol that fits, and what limits it.

    ``ends`` names the limit:

    - ``memory``: the next value needs more memory than is available.
    - ``model``: the model accepts no larger value, such as a length beyond its learned positions.
    - ``count``: larger values cannot be counted.
    - ``nothing``: every value fits and ``largest`` is None. The total is constant from ``constant_from`` on;
      ``windowed`` says that a window bounds the cache.

    ``largest`` is 0 where not even 1 fits. ``byte_per_gpu`` is the total at ``largest``: at 1 where none fits, and the
    constant total where all fit.
    """

    symbol: str
    largest: int | None
    ends: str
    byte_per_gpu: int
    next_byte_per_gpu: int | None = None
    constant_from: int | None = None
    windowed: bool = False


# The account at other sizes or data types: (sizes over the given ones, data types over the given ones).
Another = Callable[[Mapping[str, Any], Mapping[str, str]], Account]


def verdict(account: Account, plan: Plan, capacity_byte: int, reserve: Reserve, another: Another) -> Verdict:
    """The verdict on a card of this capacity. Remedies are computed only where it does not fit."""
    reserve_byte = reserve.byte(capacity_byte)
    room_byte = capacity_byte - reserve_byte
    spare_byte = room_byte - account.byte_per_gpu(plan)
    found = () if spare_byte >= 0 else tuple(_remedies(account, plan, room_byte, another))
    return Verdict(spare_byte >= 0, capacity_byte, reserve_byte, reserve.formula(capacity_byte), spare_byte, found)


def _remedies(account: Account, plan: Plan, room_byte: int, another: Another) -> Iterator[Remedy]:
    """Single changes that save memory, and pairs of changes where no single one but a smaller batch is enough."""

    def remedy(change: str, byte: int) -> Remedy:
        return Remedy(change, byte, byte <= room_byte)

    train, found = account.phase == "train", list[Remedy]()
    if train:
        found += [remedy(f"recompute {mode}", byte) for mode, byte in _recomputed(account, plan)]
    found += [remedy(change, account.byte_per_gpu(other)) for change, other in _shared(account, plan, room_byte)]
    if account.dims.get("B", 1) > 1:
        B = account.dims["B"]
        fewer = solved("B", lambda size: another({"B": size}, {}).byte_per_gpu(plan), room_byte, at_most=B - 1)
        found.append(remedy(f"B = {fewer.largest or 1} instead of {B}", fewer.byte_per_gpu))
    if not train:
        found += [remedy(change, byte) for change, byte in _shorter(account, plan, another)]
    if not any(each.fits for each in found if not each.change.startswith("B = ")):
        found += [remedy(change, byte) for change, byte in _together(account, plan, room_byte, another)]
    now_byte = account.byte_per_gpu(plan)
    yield from (each for each in found if each.byte_per_gpu < now_byte)


def _recomputed(account: Account, plan: Plan) -> Iterator[tuple[str, int]]:
    """The stronger recomputation modes that save memory."""
    modes = {"none": ("selective", "full"), "selective": ("full",)}.get(plan.recompute, ())
    for mode in modes:
        byte = account.byte_per_gpu(plan._replace(recompute=mode))
        if byte < account.byte_per_gpu(plan):
            yield mode, byte


def _shared(account: Account, plan: Plan, room_byte: int) -> Iterator[tuple[str, Plan]]:
    """The ZeRO stages that save memory, over the fewest GPUs that fit or the most that were tried."""
    for stage in (1, 2, 3) if account.phase == "train" else (3,):
        if stage < plan.zero:
            continue
        other = _fewest(account, plan._replace(zero=stage), room_byte)
        if account.byte_per_gpu(other) < account.byte_per_gpu(plan):
            what = f"ZeRO stage {stage}" if account.phase == "train" else "sharded weights (ZeRO stage 3)"
            yield f"{what} over {other.gpus:,} GPUs", other


def _fewest(account: Account, plan: Plan, room_byte: int) -> Plan:
    """The plan over the fewest GPUs that fit (powers of two); the largest number tried where none fits."""
    powers = (1 << power for power in range(1, MOST_GPUS.bit_length()))
    tried = [plan._replace(gpus=gpus) for gpus in powers if gpus >= plan.gpus] or [plan]
    return next((other for other in tried if account.byte_per_gpu(other) <= room_byte), tried[-1])


def _shorter(account: Account, plan: Plan, another: Another) -> Iterator[tuple[str, int]]:
    """Weights, cache or both in one byte per element, where they are wider now."""
    held = [line.name for line in account.lines(plan)]
    roles = [role for role in DTYPE_ROLES if ITEM_BYTES[account.workload.dtypes[role]] > 1 and role != "activation"]
    roles = [role for role in roles if role == "weight" or "key-value cache" in held or "recurrent state" in held]
    for chosen in [*((role,) for role in roles), *((tuple(roles),) if len(roles) > 1 else ())]:
        other = another({}, dict.fromkeys(chosen, "fp8"))
        what = " and ".join("weights" if role == "weight" else role for role in chosen)
        yield f"{what} in fp8 or int8", other.byte_per_gpu(plan)


def _together(account: Account, plan: Plan, room_byte: int, another: Another) -> Iterator[tuple[str, int]]:
    """Full recomputation (training) or 1-byte weights and cache (inference), combined with sharding. The batch stays."""
    change, other, stronger = "recompute full", account, plan._replace(recompute="full")
    if account.phase != "train":
        change, other, stronger = (
            "weights and cache in fp8 or int8",
            another({}, {"weight": "fp8", "cache": "fp8"}),
            plan,
        )
    for shards, shared in _shared(other, stronger, room_byte):
        yield f"{change} and {shards}", other.byte_per_gpu(shared)


def solved(symbol: str, byte_at: Callable[[int], int], room_byte: int, at_most: int = LARGEST_SIZE) -> Solved:
    """The largest size that fits, found by doubling and bisection.

    Memory grows with every size, so the sizes that fit are a range from 1. The next size is evaluated as well: it does
    not fit. A size outside the model's domain does not fit.
    """
    tried = _Tried(byte_at, room_byte)
    low, high = 0, 1
    while high < at_most and tried.fits(high):
        low, high = high, min(2 * high, at_most)
    if tried.fits(high):
        low, high = high, high + 1
    low, high = _bisected(tried.fits, low, high)
    if low == 0:
        return Solved(symbol, 0, "memory", tried.byte[1])
    last_byte, error = tried.byte[low], tried.refused.get(high)
    if (isinstance(error, SizeRangeError) or high > LARGEST_SIZE) and byte_at((low + 1) // 2) == last_byte:
        _, first = _bisected(lambda value: byte_at(value) < last_byte, 0, low)
        return Solved(symbol, None, "nothing", last_byte, constant_from=first)
    if high in tried.byte:
        return Solved(symbol, low, "memory", last_byte, tried.byte[high])
    return Solved(symbol, low, "count" if error is None or isinstance(error, SizeRangeError) else "model", last_byte)


class _Tried:
    """The sizes that were tried: their bytes, or the errors of those that the model does not accept."""

    def __init__(self, byte_at: Callable[[int], int], room_byte: int) -> None:
        self._byte_at, self._room_byte = byte_at, room_byte
        self.byte: dict[int, int] = {}
        self.refused: dict[int, InputError] = {}

    def fits(self, value: int) -> bool:
        """Whether the model accepts a size and it fits. Raises if the first size is not accepted."""
        try:
            self.byte[value] = self._byte_at(value)
        except InputError as error:
            if not self.byte:
                raise
            self.refused[value] = error
            return False
        return self.byte[value] <= self._room_byte


def _bisected(holds: Callable[[int], bool], low: int, high: int) -> tuple[int, int]:
    """The last number for which ``holds`` is true and the first for which it is false.

    It must be true at ``low`` and false at ``high``.
    """
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low, high
