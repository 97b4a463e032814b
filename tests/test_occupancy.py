"""Occupancy: hand-worked blocks, the answers of NVIDIA's own rules, kernels whose occupancy the driver reported."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command import MESSAGE, check_refused, perfmodel
from many import for_each

import perfmodel as library
from perfmodel.errors import InputError
from perfmodel.hardware import all_gpus, gpu
from perfmodel.residency import occupancy

CARDS = {
    "7.0": "v100-sxm2-16gb", "7.5": "t4", "8.0": "a100-sxm4-80gb", "8.6": "a10", "8.9": "l4", "9.0": "h100-sxm5-80gb",
    "10.0": "b200-sxm-180gb", "12.0": "rtx-5090",
}  # fmt: skip

# Capability, threads, registers, bytes of shared memory, blocks: printed by a program that calls
# cudaOccMaxActiveBlocksPerMultiprocessor of cuda_occupancy.h (CUDA 13.0) with the largest share of shared memory.
HEADER = [
    ("7.0", 37, 220, 0, 4), ("7.0", 34, 9, 0, 32), ("7.0", 154, 62, 10781, 6), ("7.0", 347, 87, 75558, 1),
    ("7.5", 256, 223, 12460, 1), ("7.5", 384, 31, 2788, 2), ("7.5", 64, 145, 0, 6), ("7.5", 233, 24, 0, 4),
    ("8.0", 833, 21, 154524, 1), ("8.0", 68, 84, 213, 6), ("8.0", 86, 119, 0, 5), ("8.0", 377, 8, 8727, 5),
    ("8.6", 17, 187, 791, 8), ("8.6", 777, 57, 22124, 1), ("8.6", 224, 60, 765, 4), ("8.6", 320, 120, 5239, 1),
    ("8.9", 60, 224, 6220, 4), ("8.9", 928, 47, 34840, 1), ("8.9", 704, 30, 8826, 2), ("8.9", 87, 123, 0, 5),
    ("9.0", 122, 26, 9872, 16), ("9.0", 320, 92, 6557, 2), ("9.0", 461, 32, 8373, 4), ("9.0", 96, 166, 0, 4),
    ("10.0", 256, 105, 25162, 2), ("10.0", 160, 84, 31773, 4), ("10.0", 480, 9, 36878, 4), ("10.0", 413, 22, 0, 4),
    ("12.0", 96, 128, 0, 5), ("12.0", 44, 121, 0, 8), ("12.0", 32, 48, 0, 24), ("12.0", 405, 50, 13755, 2),
]  # fmt: skip


@for_each(("capability", "threads", "registers", "shared_byte", "blocks"), HEADER)
def test_blocks_are_those_of_the_rules_of_cuda(capability, threads, registers, shared_byte, blocks):
    card = gpu(CARDS[capability])
    assert card.compute_capability == capability
    assert occupancy(card, threads, registers, shared_byte).blocks == blocks


# Threads, registers, shared bytes, and the warps of 64 that the driver of an H200 reported (docs/measuring.md).
@pytest.mark.parametrize(
    ("threads", "registers", "shared_byte", "share"),
    [(256, 98, 0, 0.25), (128, 126, 0, 0.25), (256, 26, 0, 1.0), (128, 40, 64, 0.75), (512, 56, 256, 0.5)],
)
def test_occupancy_is_that_of_the_driver(threads, registers, shared_byte, share):
    assert occupancy(gpu("h200"), threads, registers, shared_byte).occupancy == share


def test_registers_by_hand():
    # 80 registers x 32 threads = 2,560, a multiple of 256. A partition of 65,536 / 4 = 16,384 holds 6 warps (15,360), so
    # the multiprocessor 24. A block of 256 threads is 8 warps: 3 blocks, 24 of 64 warps.
    found = occupancy(gpu("a100"), 256, 80)
    assert (found.blocks, found.warps, found.limited_by) == (3, 24, ("registers",))
    assert found.occupancy == 0.375
    # 4 blocks are 32 warps, 8 in a partition: 16,384 / 8 = 2,048 registers of a warp, 64 of a thread.
    assert (found.more_registers, found.more_shared_byte) == (64, None)


def test_shared_memory_by_hand():
    # 48 KiB and 1 KiB of reserve are 50,176 B, a multiple of 128. 228 KiB = 233,472 B hold 4 of them (200,704).
    found = occupancy(gpu("h100"), 128, 32, 48 * 1024)
    assert (found.blocks, found.limited_by) == (4, ("shared memory",))
    # 5 blocks: 233,472 / 5 = 46,694.4, the multiple of 128 below is 46,592, minus 1,024.
    assert (found.more_registers, found.more_shared_byte) == (None, 45_568)
    # A T4 has no reserve and units of 256 B: 65,536 / 12,032 = 5.4
    assert occupancy(gpu("t4"), 96, 80, 12_000).blocks == 5


def test_threads_warps_and_blocks_by_hand():
    # An Ada multiprocessor: 48 warps and 24 blocks. 33 threads are 2 warps: 24 blocks fill both limits.
    found = occupancy(gpu("l4"), 33, 16)
    assert found.blocks == 24
    assert found.limited_by == ("threads", "warps", "blocks")
    # A Turing one: 16 blocks of a warp are half of its 32 warps.
    found = occupancy(gpu("t4"), 32, 32)
    assert (found.blocks, found.limited_by, found.occupancy) == (16, ("blocks",), 0.5)
    assert (found.more_registers, found.more_shared_byte) == (None, None)


def test_threads_of_the_card():
    # 132 multiprocessors x 4 blocks x 256 threads of at most 132 x 2,048.
    found = occupancy(gpu("h100"), 256, 64)
    assert (found.resident_blocks, found.active_threads, found.most_threads) == (528, 135_168, 270_336)


@for_each("card", [card for card in all_gpus() if card.compute_capability])
def test_one_more_block_fits_with_the_stated_values_and_not_beyond(card):
    for threads, registers, shared_byte in ((128, 128, 0), (256, 33, 20_000), (96, 200, 9_000), (64, 168, 8_191)):
        found = occupancy(card, threads, registers, shared_byte)
        assert 0 < found.occupancy <= 1
        fewer = found.more_registers if found.more_registers is not None else registers
        less = found.more_shared_byte if found.more_shared_byte is not None else shared_byte
        if (fewer, less) == (registers, shared_byte):
            assert not set(found.limited_by) <= {"registers", "shared memory"}
            continue
        assert occupancy(card, threads, fewer, less).blocks > found.blocks
        if found.more_registers is not None:
            assert occupancy(card, threads, fewer + 1, less).blocks == found.blocks
        if found.more_shared_byte is not None:
            assert occupancy(card, threads, fewer, less + 1).blocks == found.blocks


LINE = ("occupancy", "--gpu", "a100", "--threads", "256", "--registers", "80", "--shared")


def test_formats_agree(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    document = json.loads(perfmodel(*LINE, "16 KiB", "--format", "json").out)
    table = perfmodel(*LINE, "16Ki").out
    assert document["shared_byte"] == 16_384
    assert max(map(len, table.splitlines())) <= 80
    assert "Occupancy: 3 blocks, 24 of 64 warps, 37.50 %." in table
    assert "One more block fits with at most 64 registers per thread." in table
    rows = perfmodel(*LINE, "16384", "--format", "csv").out.splitlines()
    assert rows[0] == "name,multiprocessor,block,blocks,limits"
    assert "registers,65536,20480,3,limits" in rows
    assert [row["blocks"] for row in document["limits"]] == [int(row.split(",")[3]) for row in rows[1:]]
    assert perfmodel(*LINE, "0", "--format", "markdown").out.count("\n|") == 7


def test_the_library_has_the_figures_of_the_command():
    found = library.occupancy("a100", 256, 80, "16 KiB")
    assert found == library.occupancy("a100", threads=256, registers=80, shared=16_384)
    assert json.loads(perfmodel(*LINE, "16Ki", "--format", "json").out)["occupancy"] == found.occupancy


@for_each(("card", "arguments", "message"), [
        ("t4", (1025, 32, "0"), "--threads 1025: NVIDIA T4 does not admit it; 1 to 1,024 threads per block are accepted."),
        ("t4", (0, 32, "0"), "--threads 0: "),
        ("t4", (128, 256, "0"), "--registers 256: "),
        ("t4", (1024, 65, "0"), "--registers 65: 1024 threads exceed the registers of a block; at most 64 registers per"),
        ("t4", (128, 32, "64.5 KiB"), "--shared 66048: "),
        ("t4", (128, 32, "1.5 B"), "--shared: '1.5 B' is not a whole number of bytes; "),
        ("t4", (128, 32, "much"), "--shared: 'much' is not a size; "),
        ("mi300x", (128, 32, "0"), "--gpu mi300x: it has no compute capability; NVIDIA GPUs of compute capability 7.x, "),
    ])  # fmt: skip
def test_what_cannot_be_launched_is_refused(card, arguments, message):
    threads, registers, shared = arguments
    ran = perfmodel(
        "occupancy", "--gpu", card, f"--threads={threads}", f"--registers={registers}", f"--shared={shared}"
    )
    check_refused(ran, 1)
    assert ran.err.startswith(f"perfmodel occupancy: {message}")
    assert MESSAGE.match(ran.err)


def test_a_card_without_the_limits_is_refused(tmp_path):
    card = tmp_path / "card.yaml"
    text = Path(gpu("t4").file).read_text(encoding="utf-8")
    card.write_text(text.replace("  warps: {value: 32, from: cuda_guide}\n", ""))
    with pytest.raises(InputError, match=r"multiprocessor has no warps; these figures are required"):
        occupancy(gpu(str(card)), 128, 32)
    card.write_text(card.read_text().replace('"7.5"', '"6.1"'))
    with pytest.raises(InputError, match=r"its compute capability is 6.1"):
        occupancy(gpu(str(card)), 128, 32)
