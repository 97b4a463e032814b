"""The expected time: each mechanism on a small example by hand, and laws over shapes and cards."""

from __future__ import annotations

import json
import re
from math import ceil, isclose

import pytest
from command import perfmodel
from hypothesis import given, settings
from hypothesis import strategies as st
from many import for_each

from perfmodel import block, eager, measured, runs
from perfmodel.analysis import analyse
from perfmodel.cases import case
from perfmodel.config_files import workload
from perfmodel.errors import InputError
from perfmodel.hardware import gpu
from perfmodel.measure.workloads import Bench
from perfmodel.measure.workloads.attention import attend
from perfmodel.op import Engine, Op, Work, each
from perfmodel.ops.embedding import embedding
from perfmodel.prediction import predicted, predictions
from perfmodel.roofline import rates
from perfmodel.timing import (
    arrays,
    attention,
    backends,
    blocks,
    convolution,
    families,
    grouped,
    heads,
    instructions,
    kernels,
    launch,
    own_rows,
    parameters,
    picked_tiles,
    power,
    products,
    rows,
    sequence,
    stream,
    terms,
    tile_arrays,
    tile_sizes,
    tiles,
    torch_rows,
    walks,
)
from perfmodel.timing.card import Card, Tiling
from perfmodel.timing.part import Part
from perfmodel.timing.rows import Row
from perfmodel.units import scaled

SHEET = gpu("h200")


def round_card(**changed) -> Card:
    """A card with round figures: 10 multiprocessors at 1 GHz, 1 TB/s for any mix, no latency and no launch overhead."""
    plain = Tiling(
        edge=0, draw_byte_per_clock=1e6, sharing=1, lead_s=0, start_s=0, drain_per_clock=1e9, split_s=1,
        small=1, small_draw=1, misaligned=0.5, misaligned_draw=1, issue=1, wait=0, overlap=5.6,
    )  # fmt: skip
    made = Card(
        gpu=SHEET, knowledge="family", generation="generic", basis="round", multiprocessors=10, clock_hz=1e9,
        read_byte_per_s=1e12, copy_byte_per_s=1e12, add_byte_per_s=1e12, write_byte_per_s=1e12, l2_byte=1.0,
        l2_byte_per_s=1e15, through_byte_per_s=0.0, lane_per_s=1e12, cold_s=4e-6, warm_s=3e-6, graph_s=1e-6, node_s=1e-6, host_s={"any": 10e-6, "softmax": 12e-6}, host_hidden_s=0.0, serving_share=0.5, dram_latency_s=0.0,
        l2_latency_s=0.0, peak_flop_per_s={"fp16": 1e15, "fp32": 1e14}, held_flop_per_s={"fp16": 1e15, "fp32": 1e14},
        surge=1.0, patience_s=1e-3, tilings={"fp16": plain, "vector": plain}, spread={"any": 0.1},
    )  # fmt: skip
    return made._replace(**changed)


# --- tiles that the library picks

# Products of bf16 on an H100 (132 multiprocessors), and the tile in the name of the kernel that cuBLAS 13 launched.
NAMED = [
    ((1360, 2568, 2136, 1), (128, 192)), ((448, 3328, 3200, 1), (96, 128)),
    ((384, 3328, 3200, 1), (80, 128)), ((216, 14328, 11304, 1), (112, 192)), ((384, 4032, 7424, 1), (192, 128)),
    ((1536, 5376, 128, 1), (32, 64)), ((256, 14464, 13376, 1), (128, 256)), ((128, 1792, 11648, 1), (128, 96)),
]  # fmt: skip


@for_each(("shape", "named"), NAMED)
def test_the_picked_tile_needs_as_many_waves_as_the_one_that_cublas_launched(shape, named):
    m, k, n, batch = shape
    pick = picked_tiles.pick(m, n, batch, -(-k // 64), 132)

    def waves_area(tile_m, tile_n):
        return -(-(-(-m // tile_m) * -(-n // tile_n) * batch) // 132) * tile_m * tile_n

    assert pick.split == 1
    assert waves_area(pick.tile_m, pick.tile_n) <= 1.13 * waves_area(*named)


def test_the_pick_is_the_least_of_all_tiles_and_parts():
    """By trying everything, with the assumed work written out."""
    edge, split, part = picked_tiles.ASSUMED_EDGE, picked_tiles.SPLIT, picked_tiles.PART
    for m, n, batch, steps in ((640, 128, 1, 194), (64, 128, 1, 196), (2048, 1024, 3, 16), (40, 584, 1, 129)):
        works = {}
        for high, wide, _ in picked_tiles.tiles():
            tiles = ceil(m / high) * ceil(n / wide) * batch
            work = high * wide + edge * (high + wide)
            works[high, wide, 1] = ceil(tiles / 132) * steps * work
            for parts in picked_tiles.SPLITS:
                if tiles * parts <= 132 and steps >= 2 * parts:
                    added = split + part * m * n * batch * parts / 132
                    works[high, wide, parts] = ceil(steps / parts) * work + added
        pick = picked_tiles.pick(m, n, batch, steps, 132)
        assert isclose(works[tuple(pick)], min(works.values()), rel_tol=1e-12)


def test_rows_within_a_sector_cost_reads_of_the_result():
    """The results of 4096 x 4096 and 4096 x 4104 elements differ by 0.2 %. Rows of 8208 bytes start within sectors."""
    card = parameters.card(gpu("h100"))
    whole, within = (tiles.body(card, products.Product(4096, 128, n), "fp16").seconds for n in (4096, 4104))
    assert within > 1.3 * whole


# --- streams


def test_a_stream_takes_its_bytes_over_the_rate_of_its_mix():
    card = round_card(read_byte_per_s=1e12, add_byte_per_s=0.9e12, copy_byte_per_s=0.8e12, write_byte_per_s=0.5e12)
    assert stream.rate(card, 1, 0) == 1e12
    assert isclose(stream.rate(card, 2, 1), 0.9e12)
    assert isclose(stream.rate(card, 1, 1), 0.8e12)
    assert stream.rate(card, 0, 1) == 0.5e12
    assert isclose(stream.rate(card, 1, 3), 0.65e12)  # half way from 1:1 (0.8) to writes alone (0.5)
    assert isclose(stream.moved(card, 3e9, 0).dram_s, 3e-3)  # 3 GB at 1 TB/s


def test_the_last_writes_need_not_reach_memory():
    card = round_card(l2_byte=10e6, through_byte_per_s=1.25e12)
    # 20 MB pass through L2 in 16 us, in which memory takes 16 MB of them
    assert isclose(stream.moved(card, 10e6, 10e6).dram_s, 16e-6)
    # no more than the writes: 1 of 10 MB, although memory takes 8 MB in that time
    assert isclose(stream.moved(card, 9e6, 1e6).dram_s, 9e-6)
    # of 1 GB no more than 0.65 of L2: 6.5 of 2000 MB
    assert isclose(stream.moved(card, 1e9, 1e9).dram_s, 1993.5e-6)
    # where memory is as fast as L2, all bytes count
    assert isclose(stream.moved(card._replace(through_byte_per_s=1e12), 10e6, 10e6).dram_s, 20e-6)
    # where the rate through L2 is unknown, 23 % of the writes are held: 2.3 of 20 MB
    assert isclose(stream.moved(card._replace(through_byte_per_s=0.0), 10e6, 10e6).dram_s, 17.7e-6)


def test_a_run_that_follows_itself_pays_for_the_writes_of_the_one_before():
    card = round_card(l2_byte=10e6, clock_hz=1e18, through_byte_per_s=1e12 / 0.9)
    body = blocks.elementwise(card, 20e6, 20e6, 0.0, 0.0)
    assert isclose(body.seconds, 36e-6)
    assert isclose(body.late_s, 4e-6)  # a tenth of 40 MB at 1 TB/s
    part = Part(lambda found: body, 40 * 10**6)
    assert sequence.run(card, (part,))[0].seconds == body.seconds
    assert isclose(sequence.run(card, (part,), 1.0, followed=True)[0].seconds, 40e-6)
    assert isclose(sequence.run(card, (part, part))[0].seconds, 40e-6)


def test_a_working_set_that_fits_is_kept_and_one_far_larger_is_not():
    card = round_card(l2_byte=10e6)
    assert [stream.kept(card, size) for size in (5e6, 10e6, 16e6, 1e9)] == [1, 1, 0, 0]
    assert isclose(stream.kept(card, 13e6), 0.5)  # half way from 10 to 16 MB
    assert stream.moved(card, 5e6, 0, found=1.0).dram_s == 0


def test_overlap_is_the_longest_and_a_little_more():
    assert terms.overlapped((("a", 3.0), ("b", 0.1)), 4)[0] == 3
    whole, parts = terms.overlapped((("a", 1.0), ("b", 1.0)), 2)
    assert isclose(whole, 2**0.5)  # sqrt(1 + 1)
    assert [part.counts for part in parts] == [True, False, True]
    assert isclose(sum(part.seconds for part in parts if part.counts), whole)
    assert terms.overlapped((), 2) == (0.0, ())


# --- tiles


def seconds(card, m, k, n, dtype="fp16", batch=1, **more):
    return tiles.body(card, products.Product(m, k, n, batch), dtype, **more).seconds


def test_tiles_are_dealt_out_in_rounds():
    card = round_card(read_byte_per_s=1e18, copy_byte_per_s=1e18, add_byte_per_s=1e18, write_byte_per_s=1e18)
    one = tiles.body(card, products.Product(256 * 10, 4096, 128, 1), "fp16").seconds
    # 10 tiles of 256 x 128 on 10 multiprocessors: one round of 2 x 256 x 128 x 4096 FLOP at 1e14 each
    assert isclose(one, 2 * 256 * 128 * 4096 / 1e14, rel_tol=1e-3)
    for extra in (1, 9, 10):
        many = tiles.body(card, products.Product(256 * (10 + extra), 4096, 128, 1), "fp16").seconds
        assert one < many <= 2.001 * one
    assert isclose(tiles.body(card, products.Product(256 * 20, 4096, 128, 1), "fp16").seconds, 2 * one, rel_tol=1e-3)


@for_each(("number", "expected_us"), [(1, 3), (3, 3), (4, 4), (5, 4 + 3), (8, 8), (12, 12), (13, 15)])
def test_tiles_that_a_multiprocessor_holds_wait_together(number, expected_us):
    """Four tiles fit on each of 10 multiprocessors, a step takes 1 us of each, and operands arrive after 3 us."""
    choice = tile_sizes.Choice(32, 32, 1e-6, 0.0, 0.0, 40, 1.0, 1.0)
    assert tiles.step_s(choice, number, 10, 3e-6) == pytest.approx(expected_us * 1e-6)
    assert tiles.step_s(choice, number, 10, 0.0) == pytest.approx(number * 1e-6)


def test_the_quickest_kernel_of_a_library_runs():
    """Hopper has two kernels for tf32. Rows that are not aligned to 16 bytes exclude the first one."""
    dtype = "tf32"
    card = parameters.card(gpu("h100"), "family")
    kinds = tile_sizes.kinds(card, dtype, "", 16, several=True)
    assert len(kinds) == 2

    def points_of(numbers):
        return numbers._replace(
            **{name: arrays.points([one]) for name, one in numbers._asdict().items() if type(one) is float}
        )

    quickest = set()
    for size in (products.Product(64, 64, 64, 1, 4, 4, 4), products.Product(8192, 4096, 8192, 1, 4, 4, 4)):
        given = products.limits(card, size, dtype, 0.0)
        found = tiles.body(card, size, dtype).seconds
        alone = {
            kind: float(tile_arrays.least_s(card, size, dtype, kind, points_of(given))[0]) + card.tilings[kind].lead_s
            for kind in kinds
        }
        assert found == pytest.approx(min(alone.values()))
        quickest.add(min(alone, key=alone.get))
    assert quickest == set(kinds)
    assert tile_sizes.kinds(card, dtype, "", 4, several=True) == kinds[1:]
    assert tile_sizes.kinds(card, "fp32", "", 16, several=True) == ("vector",)


def test_misaligned_rows_run_at_a_rate_of_their_own():
    card = round_card(read_byte_per_s=1e18, copy_byte_per_s=1e18, add_byte_per_s=1e18, write_byte_per_s=1e18)
    aligned, misaligned = seconds(card, 2560, 4096, 128), seconds(card, 2560, 4095, 128)
    # The factor is 0.5 here, and 4095 takes as many steps as 4096.
    assert isclose(misaligned, 2 * aligned, rel_tol=1e-3)


def test_rows_aligned_to_four_or_eight_bytes_run_by_small_copies():
    card = round_card(read_byte_per_s=1e18, copy_byte_per_s=1e18, add_byte_per_s=1e18, write_byte_per_s=1e18)
    how = card.tilings["fp16"]._replace(small=0.8)
    card = card._replace(tilings={**card.tilings, "fp16": how})
    straight, four, eight = (seconds(card, 2560, k, 128) for k in (4096, 4094, 4092))
    assert isclose(
        four, straight / 0.8, rel_tol=1e-3
    )  # rows of 8188 bytes: the same number of steps, at 0.8 of the rate
    assert four == eight
    assert seconds(card, 2560, 4095, 128) > four


def test_partial_sums_are_not_shared_by_multiprocessors():
    how = round_card().tilings["fp16"]._replace(split_s=0, sharing=8)
    fast = dict.fromkeys(("read_byte_per_s", "copy_byte_per_s", "add_byte_per_s", "write_byte_per_s"), 1e18)
    card = round_card(l2_byte_per_s=1e13, tilings={"fp16": how}, **fast)
    body = tiles.body(card, products.Product(64, 65536, 64, 1), "fp16")
    parts_ = int(body.choice.split()[-2])
    sums = next(term.seconds for term in body.terms if term.name == "split-k sum")
    assert isclose(sums, 8 * 64 * 64 * parts_ / 1e13)  # written and read once in fp32, independent of multicast


def test_torch_launches_a_gate_as_two_kernels():
    line = {"op": "elementwise", "kind": "silu_gate", "shape": {"numel": 1 << 20}, "dtype": "bf16"}
    kernels_of = {impl: launched_by({**line, "impl": impl}) for impl in ("torch", "fused")}
    # the activation reads one half and writes it; the product reads two halves and writes one, 2 bytes each
    assert [kernel.op.traffic_byte() for kernel in kernels_of["torch"]] == [4 << 20, 6 << 20]
    assert [kernel.op.traffic_byte() for kernel in kernels_of["fused"]] == [6 << 20]
    apart, whole = (sum(kernel.op.flops() for kernel in kernels_of[impl]) for impl in ("torch", "fused"))
    assert apart == whole == 5 << 20


def test_a_long_sum_is_split_where_tiles_are_few():
    quick = {name: how._replace(split_s=1e-9) for name, how in round_card().tilings.items()}
    fast = dict.fromkeys(("read_byte_per_s", "copy_byte_per_s", "add_byte_per_s", "write_byte_per_s"), 1e18)
    card = round_card(tilings=quick, **fast)
    body = tiles.body(card, products.Product(128, 65536, 128, 1), "fp16")
    assert "parts" in body.choice
    assert body.seconds < seconds(round_card(**fast), 128, 65536, 128)  # there the second kernel takes a second


def test_operands_that_outgrow_the_cache_are_read_again():
    size = products.Product(8192, 8192, 8192)

    def again_byte(card):
        given = products.limits(card, size, "fp16", 0.0)
        grid = tiles.grid_of(card, size, "fp16", "fp16", given)
        choice = next(one for one in grid.choices if one[:2] == (128, 256))
        return grid.again_s(choice, size.m, size.n) * given.bandwidth_byte_per_s

    assert again_byte(round_card(l2_byte=1e12)) == 0
    again = again_byte(parameters.card(SHEET))
    # the counters of an H200 read 1.25 GB for this product, of which 0.27 GB are its operands
    assert 0.6e9 < again < 1.4e9


def test_power_holds_a_rate_and_allows_a_burst():
    card = round_card(held_flop_per_s={"fp16": 5e14}, surge=1.4, patience_s=1e-3)
    assert isclose(power.rate(card, "fp16", 1.0), 7e14, rel_tol=1e-6)
    assert isclose(power.rate(card, "fp16", 5e11), 6e14)  # after 1 ms at the held rate half of the surge is left
    assert isclose(power.rate(card, "fp16", 1e20), 5e14, rel_tol=1e-3)
    assert isclose(power.rate(card, "fp16", 15e11), 5.2e14)  # after 3 ms a tenth of it
    # a surge never passes the peak
    assert power.rate(card._replace(surge=9.0), "fp16", 1.0) <= 1e15


def test_a_small_board_holds_less_of_its_peak_than_a_large_one():
    t4, v100 = parameters.card(gpu("t4")), parameters.card(gpu("v100-sxm2-16gb"))
    share = [card.held_flop_per_s["fp16"] / card.peak_flop_per_s["fp16"] for card in (t4, v100)]
    assert share[0] < 0.7  # 38 to 42 TFLOP/s of 65 (DeepBench)
    assert share[1] > 0.95


# --- rows


@pytest.mark.parametrize(
    ("cols", "item", "words"),
    [(2048, 2, "warp"), (2049, 2, "registers"), (9216, 2, "registers"), (9224, 2, "shared"), (9225, 2, "three passes")],
)
def test_torch_takes_its_softmax_by_the_rows_length(cols, item, words):
    assert words in torch_rows.softmax(rows.Row(1000, cols, item)).name


def test_torch_of_2023_takes_shorter_rows_by_a_warp_and_the_rest_in_passes():
    assert "warp" in torch_rows.softmax(rows.Row(1000, 1024, 4), before=True).name
    assert "three passes" in torch_rows.softmax(rows.Row(1000, 1025, 4), before=True).name


def test_norms_by_their_rows_length():
    assert len(torch_rows.norm(rows.Row(10, 1024, 2), rms=False)) == 1  # four elements a step
    assert len(torch_rows.norm(rows.Row(10, 1022, 2), rms=True)) == 2  # statistics, then their use
    assert "elements" in torch_rows.norm_backward(rows.Row(10, 1022, 2), rms=False).name


@pytest.mark.parametrize(
    ("count", "threads", "waits"), [(63, 32, 8), (64, 256, 1), (200, 512, 2), (256, 1024, 1), (4096, 1024, 16)]
)
def test_the_weights_sums_go_down_32_columns_a_block(count, threads, waits):
    """Each thread sums eight rows at once: 63 rows of one warp are eight waits, 4096 rows of 32 warps sixteen."""
    (sums,) = torch_rows.weights(rows.Row(count, 1000, 2), rms=False, multiprocessors=132)
    assert (sums.blocks, sums.threads, sums.waits) == (32, threads, waits)  # 1000 columns: 31.25 blocks


def test_many_short_rows_are_summed_in_parts():
    first, gamma, beta = torch_rows.weights(rows.Row(100_000, 64, 2), rms=False, multiprocessors=132)
    assert first.blocks == 2 * 3125  # 2 blocks of columns, 100,000 rows by 32
    assert gamma == beta
    assert len(torch_rows.weights(rows.Row(100_000, 64, 2), rms=True, multiprocessors=132)) == 2


# --- blocks


def launched(card, **given):
    asked = {"name": "", "blocks": 1, "threads": 1024, "read_byte": 0.0, "write_byte": 0.0, "instructions": 0.0} | given
    return blocks.body(card, blocks.Launch(**asked), 0.0).seconds


def test_blocks_sit_in_turns():
    card = round_card(dram_latency_s=1e-6)
    one = launched(card, blocks=20, waits=2)  # two per multiprocessor, ten multiprocessors
    assert isclose(one, 2 * blocks.WAIT * 1e-6)  # two consecutive loads
    assert isclose(launched(card, blocks=21, waits=2), 2 * one)
    assert isclose(launched(card, blocks=20, waits=2, resident=1), 2 * one)


def test_a_block_that_reads_again_finds_its_row_near_or_far():
    card = round_card(l2_byte=10e6, near_byte=100e3, l2_latency_s=1e-6, l2_byte_per_s=1e18)
    given = {"blocks": 10, "waits": 0.0, "near_waits": 1.0, "again_byte": 1.0}
    assert isclose(launched(card, **given, held_byte=50e3), blocks.NEAR_WAIT * blocks.WAIT * 1e-6)
    assert isclose(launched(card, **given, held_byte=500e3), blocks.WAIT * 1e-6)  # 5 MB of the data fit in L2


@given(st.integers(1, 10**5), st.integers(1, 40000), st.sampled_from((2, 4)), st.integers(1, 8), st.booleans())
@settings(max_examples=80)
def test_rows_on_more_multiprocessors_are_never_slower(count, cols, item, more, rms):
    card = parameters.card(SHEET)
    wider = card._replace(
        multiprocessors=card.multiprocessors * (more + 1),
        lane_per_s=card.lane_per_s * (more + 1),
        l2_byte_per_s=card.l2_byte_per_s * (more + 1),
        l2_byte=card.l2_byte * (more + 1),
    )
    row = rows.Row(count, cols, item)
    launches = (torch_rows.softmax(row), torch_rows.softmax_backward(row), *torch_rows.norm(row, rms))
    for launch_ in (*launches, torch_rows.norm_backward(row, rms)):
        now, then = (blocks.body(c, launch_, 0.0).seconds for c in (card, wider))
        assert then <= now * (1 + 1e-9), launch_.name


def test_our_layout_is_chosen_as_by_the_kernels():
    card = parameters.card(SHEET)
    # 1024 halves are 128 accesses of 8; two a thread, so 64 threads a row, two rows to a block of 128, one turn
    on = own_rows.placement(card, "softmax_forward", Row(131072, 1024, 2))
    assert on.found == (8, 64, 2, 0, 128, 1, 1, True, True)
    assert on.blocks == 131072 // 2
    # 40 registers a thread of 65,536, as the compiler reports them, leave room for twelve blocks
    assert (own_rows.registers("softmax_forward", on.found, 2), on.held) == (40, 12)
    # odd rows go element by element, and 65,537 of them fit no block
    assert own_rows.placement(card, "softmax_forward", Row(1, 65537, 2)) is None


# --- instructions


def test_functions_are_sequences_of_instructions():
    # x/2 (1 + erf(x/sqrt 2)): three products, an addition, an erf of 36
    from perfmodel.mixes import GELU, SCALE, SOFTMAX

    def of_mix(mix):
        return instructions.of_op(Op((), (Work("one", each(mix, 1), Engine.VECTOR),)), 0)

    assert of_mix(SCALE) == 1
    assert of_mix(GELU) == 3 + 1 + instructions.SEQUENCES["erf"]
    assert of_mix(SOFTMAX) == 1 + 1 + instructions.SEQUENCES["exp"] + 1 + 1  # the shared sum divides by a product


# --- attention

HEADS = walks.Attended(64, 64, 1024, 1024, 128, 128, False)
TILE = walks.Tile(128, 64, 2)
HOPPER, AMPERE = parameters.card(SHEET), parameters.card(gpu("a100"))


def back_end(impl, card=HOPPER, dtype="bf16"):
    return backends.back_end(impl, dtype, families.generation(card.gpu), card.serving_share)


def attended(size, impl, card=HOPPER, found=0.0):
    return attention.forward(card, back_end(impl, card), size, "bf16", found)


def test_a_mask_halves_the_walk_of_many_tiles():
    mean, longest, edges = walks.walked(HEADS._replace(queries=8192, keys=8192, causal=True), 8192, TILE, 1)
    # tile i of 64 goes over 128 (i + 1) keys, 128 x 65 / 2 in the mean; two steps of 64 are crossed by the diagonal
    assert (mean, longest, edges) == (128 * 65 / 2, 8192, 128)
    # counted tile by tile or summed up as a line: 65 tiles go over 128 x 66 / 2 in the mean
    many, _, _ = walks.walked(HEADS._replace(queries=8320, keys=8320, causal=True), 8320, TILE, 1)
    assert isclose(many, 128 * 66 / 2)


def test_a_window_shortens_the_walk():
    size = HEADS._replace(queries=8192, keys=8192, causal=True, window=512)
    mean, longest, _ = walks.walked(size, 8192, TILE, 1)
    # a tile of 128 queries spans 512 + 127 keys, in steps of 64; the first four tiles see 128 to 512 keys
    assert longest == 640
    assert mean == (128 + 256 + 384 + 512 + 60 * 640) / 64


def test_a_pair_takes_the_root_of_the_squares():
    card = round_card()
    # 10 multiprocessors of 1e14 FLOP/s: 512 FLOP at half of that; an exponential at 16 e9/s, 8 instructions at 1e11/s
    product_s, softmax_s = 512 / 5e13, 1 / 16e9 + 8 / 1e11
    assert isclose(attention.pair_s(card, "fp16", 512.0, 0.5, 8.0), (product_s**2 + softmax_s**2) ** 0.5, rel_tol=1e-9)


def launches_of(size, backward=False):
    return heads.launches(HOPPER, back_end("cudnn"), size, "bf16", 1, backward)


def test_a_call_of_attention_launches_the_kernels_of_cudnn():
    grouped, one = HEADS._replace(kv_heads=16), HEADS._replace(queries=1, masked=True)
    assert len(launches_of(HEADS)) == 2  # counters and the kernel
    assert len(launches_of(HEADS._replace(dropout=True))) == 3  # and a seed
    assert len(launches_of(HEADS, backward=True)) == 4  # counters, row sums, the kernel, dq
    assert len(launches_of(grouped, backward=True)) == 6  # and the sums of dk and dv over a group
    assert (
        len(launches_of(one)) == 2
    )  # 64 heads on 132 multiprocessors: the keys are split, and a kernel joins the parts
    assert len(launches_of(one._replace(heads=128, kv_heads=128))) == 1


@pytest.mark.parametrize("fact", ["masked", "dropout"])
@pytest.mark.parametrize("queries", [64, 1024])
def test_masks_and_dropout_cost_time(fact, queries):
    plain = HEADS._replace(queries=queries)
    for backward in (False, True):
        with_fact, without = launches_of(plain._replace(**{fact: True}), backward), launches_of(plain, backward)
        assert sum(part.body(0.5).seconds for part in with_fact) > sum(part.body(0.5).seconds for part in without)


def test_an_odd_result_takes_an_older_kernel():
    plain = products.Product(4096, 1024, 50257, aligned=2)
    # both wait for their products alone: the older kernel runs at 0.7 of the rate
    ratio = tiles.body(HOPPER, plain._replace(odd=True), "bf16").seconds / tiles.body(HOPPER, plain, "bf16").seconds
    assert 1.3 < ratio < 1 / 0.7


def test_one_query_pays_for_its_tile():
    one, full = (attended(HEADS._replace(queries=queries), "efficient").seconds for queries in (1, 64))
    assert isclose(one, full, rel_tol=0.02)


def test_keys_are_split_where_blocks_are_few():
    assert walks.split(300, 264, 100) == 1
    # 32 blocks on 264 slots: 33 parts fill four rounds exactly; 7 parts fill 224 / 264 = 0.848 of one, 8 fill 0.970
    assert walks.split(32, 264, 1000) == 8
    assert walks.split(1, 264, 4) == 4


def test_keys_are_shared_out_by_the_newer_rule():
    decoding = HEADS._replace(queries=1, keys=8192)
    # 32 blocks of 64 steps on 100 multiprocessors: 1.1 x 20.48 steps are a block's part, 23; 64 / 23 are 3 parts
    assert walks.shared_out(decoding, 32, 64, 100) == 3
    assert walks.shared_out(decoding, 32, 4, 100) == 1  # too few steps
    assert walks.shared_out(HEADS._replace(causal=True), 320, 64, 100) == 1  # the blocks of this prompt fill the card


def test_heads_that_share_keys_lie_in_one_tile():
    shared = walks.Attended(512, 128, 1, 8192, 128, 128, False)
    for impl in ("flash", "serving", "paged", "cudnn"):
        alone = attended(shared._replace(kv_heads=512), impl).seconds
        assert attended(shared, impl).seconds < 0.5 * alone, impl


def test_blocks_alone_on_a_multiprocessor_get_more_than_their_part():
    assert walks.rounds(264, 132, 2, 1.7) == 2  # one full round of two
    assert walks.rounds(132, 132, 2, 1.0) == 2  # alone, at its part of the rate
    assert isclose(walks.rounds(132, 132, 2, 2.0), 1 / 0.75)  # or at 1 - (1 - 1/2)^2 of it
    assert walks.rounds(265, 132, 1, 1.0) == 3


def test_an_older_matrix_instruction_reaches_less_of_a_newer_peak():
    assert back_end("flash").share == backends.OLDER_INSTRUCTION["hopper"] * backends.FLASH.share
    assert back_end("paged", AMPERE).share == backends.PAGED.share
    assert back_end("flash", dtype="fp32") == back_end("efficient", dtype="fp32")  # the one that takes it


def test_flash_is_torchs_on_every_card():
    assert back_end("flash").title == back_end("flash", AMPERE).title == "FlashAttention-2"
    assert back_end("torch", AMPERE) == back_end("flash", AMPERE)
    assert back_end("serving", AMPERE).title == "FlashAttention of a serving stack"
    assert back_end("torch").title == back_end("cudnn").title
    line = {"op": "attention", "shape": {"B": 1, "H": 32, "N": 1, "S": 64, "d": 128}, "impl": "serving"}
    assert any(term.name == "planning and cache append" for term in timed(line).terms)
    assert timed(line).expected_s > timed({**line, "impl": "flash"}).expected_s


def test_decoding_by_cudnn_is_a_stream():
    size = walks.Attended(2048, 2048, 1, 8192, 128, 128, False)
    found = attended(size, "cudnn")
    assert isclose(found.seconds, 2048 * 8192 * 512 / HOPPER.read_byte_per_s, rel_tol=0.05)
    few, many = (attended(HEADS._replace(queries=1, keys=keys), "cudnn") for keys in (639, 640))
    assert many.seconds - few.seconds > 0.9 * backends.CUDNN.join * HOPPER.dram_latency_s  # now in parts


@pytest.mark.parametrize(
    ("name", "impl", "low", "high"),
    [
        ("h100", "cudnn", 500, 650), ("h100", "flash", 300, 450), ("a100", "flash", 170, 215),
        ("b200", "cudnn", 900, 1600), ("l40s", "flash", 150, 280),
    ],
)  # fmt: skip
def test_long_prompts_run_at_known_rates(name, impl, low, high):
    card, long = parameters.card(gpu(name)), 16384
    size = walks.Attended(32, 32, long, long, 128, 128, True)
    assert low < 2e-12 * 32 * long**2 * 128 / attended(size, impl, card).seconds < high


@pytest.mark.parametrize("impl", ["flash", "cudnn", "efficient", "serving", "paged"])
@pytest.mark.parametrize("size", [HEADS, HEADS._replace(causal=True), HEADS._replace(queries=1, keys=4096)])
def test_attention_of_more_is_never_quicker(impl, size):
    now = attended(size, impl).seconds
    for grown in (
        size._replace(heads=2 * size.heads, kv_heads=2 * size.kv_heads),
        size._replace(keys=2 * size.keys, queries=size.queries if size.queries == 1 else 2 * size.queries),
        size._replace(width=256, value_width=256) if size.queries > 1 else size,  # a wide head's tile is lower
    ):
        assert attended(grown, impl).seconds >= 0.98 * now, grown


def test_torch_has_no_stacks_kernels():
    line = {"op": "attention", "shape": {"B": 1, "H": 8, "N": 64, "d": 64}, "impl": "paged"}
    bench = Bench.__new__(Bench)  # without torch
    bench.torch, bench.case, bench.line = None, case(line), line
    with pytest.raises(InputError, match="'paged' is the kernel of a serving stack, which torch does not have"):
        attend(bench, 1)


# --- convolution


def test_the_blocks_of_our_convolution_that_a_multiprocessor_holds():
    card = parameters.card(SHEET)
    choices = [convolution.own(card, 4, 8192, 8192, K, 2, 0.0).choice for K in (3, 4, 7)]
    # as the occupancy of the compiled kernels: 98 and 64 registers in blocks of 256, 126 in blocks of 128
    assert [int(choice.split(", ")[1].split()[0]) for choice in choices] == [2, 4, 4]


def test_rows_that_no_strip_takes_in_come_one_by_one():
    card = parameters.card(SHEET)
    whole, rest = (convolution.own(card, 1, N, 1024, 3, 2, 0.0) for N in (2048, 2055))
    waited = next(term.seconds for term in rest.terms if term.name == "remainder rows")
    assert isclose(waited, 7 * convolution.REST_LATENCIES * card.dram_latency_s)
    assert all(term.name != "remainder rows" for term in whole.terms)


def test_padding_has_a_block_for_every_row():
    card = parameters.card(SHEET)
    narrow, wide = (convolution.pad(card, 16, 2048, 2052, D, 2, 1.0).seconds for D in (128, 256))
    assert isclose(narrow, wide, rel_tol=0.01)  # half of the threads are idle


def test_the_other_layout_costs_torch_two_copies():
    card = parameters.card(SHEET)
    first, last = (
        convolution.by_torch(card, 1, 4096, 4096, 3, 2, "fp16", turned=turned).seconds for turned in (False, True)
    )
    assert last > 1.5 * first


# --- launches and sequences


def copies(*seconds):
    """Kernels of given times, each a stream at 1 TB/s with a lower bound of zero."""
    return [(block.Kernel("copy", "copy", 1, copied(s), block.Step("copy", block.ops.find("stream_copy"))), 0.0)
            for s in seconds]  # fmt: skip


def copied(seconds):
    return block.ops.find("stream_copy")(numel=round(seconds * 1e12 / 2), act=1)


def test_launches_by_protocol():
    card = round_card(dram_latency_s=400e-9, l2_latency_s=200e-9, clock_hz=1e18)
    found = {}
    for protocol in ("cold", "warm", "eager"):
        whole = sequence.expected(card, copies(1e-6, 1e-6), "fp16", protocol=protocol)[1]
        found[protocol] = sum(
            t.seconds for t in whole.terms if t.name.startswith(("launch", "host launch", "gaps", "ramp"))
        )
    ramps = 2 * launch.RAMP * 400e-9  # L2 has no room here, so both kernels start from memory
    assert isclose(found["cold"], 4e-6 + 1e-6 + ramps)
    assert isclose(found["warm"], 3e-6 + 1e-6 + ramps)
    body_s = sequence.expected(card, copies(1e-6), "fp16", protocol="eager")[1].bodies[0].seconds
    # the first kernel leaves the rest of the host's 10 us to wait
    assert isclose(found["eager"], 10e-6 + (10e-6 - body_s) + ramps, rel_tol=1e-6)


def test_the_host_hides_behind_a_long_kernel():
    card = round_card(host_hidden_s=5e-6)
    assert launch.first_launch_s(card, "eager", "softmax", 1.0) == 12e-6 - 5e-6
    assert launch.first_launch_s(card, "eager", "softmax", 1e-6) == 12e-6 - 1e-6  # behind a short one, less
    assert launch.first_launch_s(card._replace(warm_s=9e-6), "eager", "softmax", 1.0) == 9e-6  # never below a replay
    # where the host's own period is known, later kernels wait for it: 20 us less the microsecond before
    paced = card._replace(host_s={"any": 10e-6, "between": 20e-6})
    assert isclose(launch.gap_s(paced, "eager", 1e-6), 19e-6)


def launched_by(line):
    read = case(line)
    running = block.kernels(read.steps, read.dims, fused=read.fused, backward=read.backward)
    kept = [kernel for kernel in running if read.forward or not kernel.forward]
    return list(eager.launched(kept, line.get("impl", ""), read.dtype))


def timed(line, card=None):
    read = case(line)
    running = [(kernel, 0.0) for kernel in launched_by(line)]
    return sequence.expected(
        card or parameters.card(SHEET), running, read.dtype, impl=line.get("impl", ""), protocol=read.protocol
    )[1]


def test_terms_that_count_add_up():
    for line in LINES:
        found = timed(line)
        assert isclose(sum(term.seconds for term in found.terms if term.counts), found.expected_s, rel_tol=1e-9), line


def test_eager_stages_are_kernels_of_their_own():
    shape = {"B": 4, "H": 16, "H_kv": 16, "N": 512, "S": 512, "d": 128}
    line = {"op": "attention", "shape": shape, "dtype": "bf16", "impl": "naive"}
    assert len(timed(line).bodies) == 4  # scores, their scale, softmax, output
    assert len(timed({**line, "causal": True}).bodies) == 8  # and a mask made in two, a copy, a filling
    assert timed(line).expected_s > 2 * timed({**line, "impl": "flash"}).expected_s
    # three casts, two scales, scores, softmax; minus infinity, a comparison, whole rows, zero, a choice; output and cast
    assert len(timed({**line, "impl": "math"}).bodies) == 14
    assert len(timed({**line, "impl": "math", "shape": {**shape, "H_kv": 4}}).bodies) == 16  # every head's own keys


def test_a_masked_softmax_is_this_projects_kernel_or_three_of_torch():
    shape = {"B": 4, "H": 16, "N": 1024, "S": 1024}
    line = {"op": "masked_softmax", "shape": shape, "dtype": "fp16"}
    (whole,) = timed(line).bodies
    assert "threads per row" in whole.choice
    plain = timed({"op": "softmax", "shape": {"rows": 65536, "cols": 1024}, "dtype": "fp16", "impl": "ours"})
    # The mask: 1024 x 1024 elements from memory once, 1/64 of the scores, and from L2 for every row.
    assert plain.expected_s < timed(line).expected_s < 1.3 * plain.expected_s
    assert len(timed({**line, "impl": "naive"}).bodies) == 3  # scale, mask, softmax
    assert timed({**line, "impl": "naive"}).expected_s > 3 * timed(line).expected_s  # 6 crossings of a score, not 2
    back = {**line, "op": "masked_softmax_backward"}
    assert (len(timed(back).bodies), len(timed({**back, "impl": "naive"}).bodies)) == (
        1,
        3,
    )  # y dy is a kernel of torch


@pytest.mark.parametrize("shape", [(1, 1, 64, 64), (1, 1, 4096, 4096), (1, 1, 512, 65536), (8, 12, 384, 384)])
@pytest.mark.parametrize("name", ["t4", "a100", "h200", "mi300x"])
def test_a_masked_softmax_takes_no_less_than_its_bound(name, shape):
    line = {"op": "masked_softmax", "shape": dict(zip(("B", "H", "N", "S"), shape, strict=True)), "dtype": "fp16"}
    (found,) = predictions([case(line)], gpu(name))
    assert found.expected.low_s > 0
    assert found.expected.expected_s >= found.total.lower_s


# --- laws

SHAPES = {
    "matmul": ("m", "k", "n"),
    "softmax": ("rows", "cols"),
    "layernorm": ("rows", "cols"),
    "rmsnorm_backward": ("rows", "cols"),
}
LINES = [
    {"op": "matmul", "shape": {"m": 4096, "k": 4096, "n": 4096}, "dtype": "bf16"},
    {"op": "matmul", "shape": {"m": 8, "k": 8192, "n": 8192}, "dtype": "fp16"},
    {"op": "matmul", "shape": {"m": 512, "k": 64, "n": 512, "batch": 256}, "dtype": "fp32"},
    {"op": "softmax", "shape": {"rows": 8192, "cols": 4096}, "impl": "torch"},
    {"op": "softmax_backward", "shape": {"rows": 8192, "cols": 4096}, "impl": "ours"},
    {"op": "layernorm", "shape": {"rows": 8192, "cols": 411}, "impl": "torch"},
    {"op": "layernorm_backward", "shape": {"rows": 8192, "cols": 4096}, "impl": "ours"},
    {"op": "rmsnorm", "shape": {"rows": 64, "cols": 40000}, "impl": "ours"},
    {"op": "elementwise", "kind": "gelu", "shape": {"numel": 1 << 24}},
    {"op": "attention", "shape": {"B": 4, "H": 16, "N": 2048, "d": 128}, "impl": "flash", "causal": True},
    {"op": "attention", "shape": {"B": 8, "H": 32, "H_kv": 8, "N": 1, "S": 8192, "d": 128}, "impl": "flash"},
    {"op": "attention", "shape": {"B": 4, "H": 16, "N": 1024, "d": 64}, "impl": "cudnn", "direction": "forward_backward"},
    {"op": "attention", "shape": {"B": 4, "H": 16, "N": 2048, "d": 128}, "impl": "serving", "causal": True},
    {"op": "attention", "shape": {"B": 64, "H": 32, "H_kv": 8, "N": 1, "S": 8192, "d": 128}, "impl": "paged"},
    {"op": "attention", "shape": {"B": 64, "H": 32, "N": 1, "S": 8192, "d": 64}, "impl": "cudnn"},
    {"op": "attention", "shape": {"B": 4, "H": 16, "N": 512, "d": 64}, "impl": "math", "direction": "forward_backward"},
    {"op": "conv1d", "shape": {"B": 1, "N": 8192, "D": 8192, "K": 3}, "impl": "fused", "direction": "forward_backward"},
    {"op": "conv1d", "shape": {"B": 1, "N": 8192, "D": 8192, "K": 3}, "impl": "torch"},
    {"op": "qkv", "shape": {"B": 1, "N": 2048, "D": 4096}, "dtype": "bf16"},
    {"op": "mlp", "shape": {"B": 1, "N": 2048, "D": 4096, "F": 16384}, "dtype": "bf16", "direction": "train"},
    {"op": "layer", "shape": {"B": 1, "N": 512, "D": 1024, "H": 16, "F": 4096}, "dtype": "bf16", "direction": "train"},
]  # fmt: skip
PROTOCOLS = ("cold", "warm", "rotating", "eager")


@for_each("line", LINES)
@for_each("name", ["h200", "a100", "t4", "v100-pcie-32gb", "l4", "b200-sxm-180gb", "mi300x", "epyc-7763"])
def test_never_below_the_bound_and_always_in_its_range(line, name):
    for state in parameters.KNOWLEDGE[: parameters.KNOWLEDGE.index(parameters.best_knowledge(gpu(name))) + 1]:
        for protocol in PROTOCOLS:
            found = next(iter(predictions([case({**line, "protocol": protocol})], gpu(name), knowledge=state)))
            assert found.expected
            assert found.total
            assert found.total.lower_s <= found.expected.low_s <= found.expected.expected_s < found.expected.high_s
            # the model's own time, before it is held to the bound, is not far below it
            assert found.expected.unclamped_s >= 0.8 * found.total.lower_s


@for_each("line", LINES)
def test_eager_takes_longest_and_warm_no_longer_than_cold_but_for_late_writes(line):
    cold, warm, rotating, eager = (timed({**line, "protocol": protocol}) for protocol in PROTOCOLS)
    late_s = sum(term.seconds for term in warm.terms if term.name == "write-back of the previous run")
    assert warm.expected_s <= cold.expected_s * (1 + 1e-9) + late_s
    assert eager.expected_s >= warm.expected_s * (1 - 1e-9)
    card = parameters.card(SHEET)  # a graph of several runs is launched once
    assert warm.expected_s * (1 - 1e-9) <= rotating.expected_s + card.warm_s - card.graph_s


@for_each("line", LINES)
def test_a_faster_card_is_never_slower(line):
    card = parameters.card(SHEET)
    now = timed(line, card).expected_s
    better = {
        "copy_byte_per_s": 2 * card.copy_byte_per_s,
        "l2_byte_per_s": 2 * card.l2_byte_per_s,
        "lane_per_s": 2 * card.lane_per_s,
        "dram_latency_s": card.dram_latency_s / 2,
        "cold_s": card.cold_s / 2,
        "held_flop_per_s": {dtype: 2 * rate for dtype, rate in card.held_flop_per_s.items()},
    }
    for name, value in better.items():
        assert timed(line, card._replace(**{name: value})).expected_s <= now * (1 + 1e-9), name


@given(st.integers(1, 8), st.integers(1, 64), st.integers(1, 64), st.integers(1, 64))
@settings(max_examples=60)
def test_more_multiprocessors_are_never_slower(more, m, k, n):
    """A card with more multiprocessors at the same rate each."""
    card = parameters.card(SHEET)
    wider = card._replace(
        multiprocessors=card.multiprocessors * (more + 1),
        peak_flop_per_s={dtype: peak * (more + 1) for dtype, peak in card.peak_flop_per_s.items()},
        l2_byte_per_s=card.l2_byte_per_s * (more + 1),
    )
    now, then = (tiles.body(c, products.Product(64 * m, 64 * k, 64 * n), "bf16").seconds for c in (card, wider))
    assert then <= now * (1 + 1e-9)


def kernels_of(found):
    """Returns the kernels that a library chooses, without their sizes."""
    return [re.sub(r"\d+ (x \d+ )?blocks", "", body.choice) for body in found.bodies]


@given(st.sampled_from(sorted(SHAPES)), st.data())
@settings(max_examples=80)
def test_twice_the_size_is_never_quicker_with_the_same_kernels(op, data):
    """Doubling keeps every alignment. If the library chooses another kernel, the larger size may be faster.

    torch sums the columns of 64 or more rows with eight times as many threads: 64 x 8 takes less time than 32 x 8.
    """
    shape = {name: 8 * data.draw(st.integers(1, 600), label=name) for name in SHAPES[op]}
    grown = data.draw(st.sampled_from(SHAPES[op]))
    line = {"op": op, "shape": shape, "impl": "torch", "dtype": "fp16"}
    small, large = timed(line), timed({**line, "shape": {**shape, grown: 2 * shape[grown]}})
    assert large.unclamped_s >= small.unclamped_s * (0.97 if kernels_of(small) == kernels_of(large) else 0.45)


# The sizes that grow, and those that stay constant.
GROWING = [
    ({"op": "elementwise", "kind": "gelu", "impl": "torch"}, ("numel",), {}),
    ({"op": "conv1d", "impl": "torch"}, ("B", "N", "D"), {"K": 3}),
    ({"op": "conv1d", "impl": "fused"}, ("B", "N", "D"), {"K": 4}),
    ({"op": "attention", "impl": "flash"}, ("B", "N", "S"), {"H": 8, "d": 64}),
    ({"op": "attention", "impl": "cudnn", "causal": True}, ("B", "N"), {"H": 8, "d": 128}),
    ({"op": "attention", "impl": "naive"}, ("B", "N"), {"H": 8, "d": 64}),
    ({"op": "softmax", "impl": "ours"}, ("rows",), {"cols": 1024}),
    ({"op": "mlp", "impl": "torch"}, ("B", "N", "D"), {}),
    ({"op": "layer", "impl": "flash"}, ("B", "N"), {"D": 1024, "H": 8}),
]


@given(st.sampled_from(GROWING), st.sampled_from(["cold", "warm"]), st.data())
@settings(max_examples=80)
def test_twice_as_much_of_anything_is_never_quicker(growing, protocol, data):
    words, names, fixed = growing
    shape = {name: 8 * data.draw(st.integers(1, 8 if name == "B" else 200), label=name) for name in names} | fixed
    grown = data.draw(st.sampled_from(names))
    line = {**words, "shape": shape, "dtype": "fp16", "protocol": protocol}
    small = timed(line).unclamped_s
    assert timed({**line, "shape": {**shape, grown: 2 * shape[grown]}}).unclamped_s >= small * 0.97


# --- knowledge


def test_three_states_of_knowledge():
    states = {state: parameters.card(SHEET, state) for state in parameters.KNOWLEDGE}
    assert [card.knowledge for card in states.values()] == list(parameters.KNOWLEDGE)
    assert states["datasheet"].copy_byte_per_s == 0.85 * 4.8e12
    assert isclose(states["family"].copy_byte_per_s, 0.894 * 4.8e12)
    assert states["calibrated"].copy_byte_per_s == measured.of(SHEET).value("stream", "copy")  # the card's own reading
    assert parameters.best_knowledge(gpu("t4")) == "family"
    assert parameters.best_knowledge(gpu("mi300x")) == "datasheet"


def test_more_than_is_known_is_refused():
    with pytest.raises(InputError, match="known by its family alone; datasheet, family are accepted"):
        parameters.card(gpu("t4"), "calibrated")
    with pytest.raises(InputError, match="knowledge 'measured': it is not a state"):
        parameters.card(gpu("t4"), "measured")


@for_each("name", [*families.GENERATIONS, families.ANY])
def test_every_family_names_its_sources(name):
    found = families.family(name)
    assert found.name == name
    assert all(0 < found.value("stream", mix) <= 1 for mix in ("read", "copy", "add", "write"))


# --- output


def test_predict_shows_it(tmp_path):
    cases = tmp_path / "cases.jsonl"
    cases.write_text("\n".join(map(json.dumps, LINES)))
    ran = perfmodel("predict", "--cases", str(cases), "--gpu", "h200", "--format", "json")
    document = json.loads(ran.out)
    assert document["gpu"]["knowledge"] == "calibrated"
    for one in document["cases"]:
        assert one["lower_s"] <= one["expected_low_s"] <= one["expected_s"] <= one["expected_high_s"]
    family = json.loads(
        perfmodel("predict", "--cases", str(cases), "--gpu", "h200", "--knowledge", "family", "--format", "json").out
    )
    assert family["gpu"]["knowledge"] == "family"


def test_flops_shows_it():
    document = json.loads(perfmodel("flops", "--config", "llama-2-7b-layer", "--gpu", "a100", "--format", "json").out)
    assert document["gpu"]["knowledge"] == "family"
    steps = sum(step["expected_s"] * step["repeat"] for step in document["steps"])
    card = parameters.card(gpu("a100"))
    # one kernel less has a gap before it than there are kernels, for the first has the launch
    assert isclose(document["total"]["expected_s"], steps + card.cold_s - card.node_s)
    table = perfmodel("flops", "--config", "llama-2-7b-layer", "--gpu", "a100").out
    assert "expected" in table
    assert "family knowledge; protocol cold" in table


def test_without_a_card_there_is_none():
    answer = analyse(workload("llama-2-7b-layer"))
    assert answer.total.expected is None
    assert all(row.expected is None for row in answer.rows)


def test_explain_shows_every_term():
    line = json.dumps(LINES[0])
    ran = perfmodel("explain", "--time", line, "--gpu", "h200")
    assert ran.code == 0
    found = timed(LINES[0])
    for term in found.terms:
        assert term.name in ran.out
    assert "matmul.bf16 sustained" in ran.out
    held = measured.of(SHEET).value("matmul", "bf16 sustained")
    assert scaled(held, "FLOP/s", 4) in ran.out


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("explain",), 2, "argument 'OP' is missing"),
        (("explain", "softmax", "--time", "{}"), 2, "OP and --time are both given"),
        (("explain", "--time", json.dumps(LINES[0])), 2, "no GPU is named"),
        (("explain", "--time", '{"op": "matmull"}', "--gpu", "t4"), 1, "'matmull' is not known"),
        (("explain", "--time", json.dumps(LINES[0]), "--gpu", "t4", "--knowledge", "calibrated"), 1, "family alone"),
    ],
)
def test_what_it_refuses(words, code, message):
    ran = perfmodel(*words)
    assert ran.code == code
    assert message in ran.err
    assert ran.out == ""


MODELS = (
    "deepseek-v3",
    "mixtral-8x7b",
    "mamba-130m",
    "rwkv-4-169m",
    "t5-small",
    "whisper-base",
    "gpt-oss-20b",
    "gpt2-124m",
)


@pytest.mark.parametrize("name", MODELS)
def test_every_kernel_of_a_model_has_a_time(name):
    """Every operation has a mechanism, and no expected time is below the bound."""
    chosen = workload(name)
    for phase in chosen.phases:
        for fused in (True, False):
            answer = analyse(chosen, phase=phase, gpu=gpu("a100"), fused=fused)
            for row in answer.rows:
                assert row.expected, row.name
                assert row.bounds
                assert row.expected.expected_s >= row.bounds.lower_s, row.name
                # the model's own time may lie below the bound where L2 holds what the kernel before touched
                assert row.expected.unclamped_s > 0.1 * row.bounds.lower_s, row.name


@for_each(("op", "sizes", "shape"), [
        # (m, k, n, batch) of the product that a library is asked for
        ("matmul", {"m": 2, "k": 3, "n": 5, "batch": 7}, (2, 3, 5, 7)),
        ("linear", {"B": 2, "N": 3, "D_in": 5, "D_out": 7}, (6, 5, 7, 1)),
        ("linear_input_gradient", {"B": 2, "N": 3, "D_in": 5, "D_out": 7}, (6, 7, 5, 1)),
        ("linear_weight_gradient", {"B": 2, "N": 3, "D_in": 5, "D_out": 7}, (5, 6, 7, 1)),
        ("qkv", {"B": 2, "N": 3, "D": 8, "H": 4, "H_kv": 2, "d": 2}, (6, 8, 16, 1)),  # 8 columns of q, 4 each of k and v
        ("scores", {"B": 2, "H": 4, "H_kv": 4, "N": 3, "S": 5, "d": 7}, (3, 7, 5, 8)),
        ("scores", {"B": 2, "H": 4, "H_kv": 4, "N": 30, "S": 30, "d": 7, "causal": 1}, (30, 7, 30, 8)),
        ("weighted_values", {"B": 2, "H": 4, "H_kv": 4, "N": 3, "S": 5, "d": 7}, (3, 5, 7, 8)),
    ])  # fmt: skip
def test_a_product_is_stated_by_its_operation(op, sizes, shape):
    (fact,) = runs.each(block.ops.find(op)(**sizes).runs)
    gemm = fact.kernel if isinstance(fact, runs.Stage) else fact
    assert products.Product.of(gemm)[:4] == shape


def test_a_type_without_an_engine_of_its_own_holds_what_the_one_that_serves_it_holds():
    a100, t4 = (parameters.card(gpu(name), "family") for name in ("a100", "t4"))
    assert a100.held_flop_per_s["fp8"] == a100.held_flop_per_s["fp16"]
    assert a100.tilings["fp8"] == a100.tilings["fp16"]
    # bfloat16 has no tensor rate on Turing and runs as fp32 on the vector engine
    assert t4.held_flop_per_s["bf16"] == t4.held_flop_per_s["fp32"]
    assert "bf16" not in t4.tilings


def test_the_next_kernel_waits_for_memory_where_its_data_lie_there():
    card = round_card(dram_latency_s=400e-9, l2_latency_s=200e-9)
    assert isclose(launch.ramp_s(card, True) - launch.ramp_s(card, False), launch.RAMP * 200e-9)


def test_graphics_chips_of_blackwell_have_the_habits_of_ada():
    assert [families.generation(gpu(name)) for name in ("rtx-5090", "b200", "rtx-4090")] == [
        "ada",
        "blackwell",
        "ada",
    ]


def test_a_kernel_finds_in_l2_no_more_than_the_one_before_it_touched():
    card = round_card(l2_byte=1e9)
    found = []
    before, part = Part(lambda share: terms.Body(0.0, (), "any"), 1000), None
    part = Part(lambda share: found.append(share) or terms.Body(0.0, (), "any"), 4000)
    sequence.run(card, [part], before=before)
    assert found == [0.25]  # 1000 of 4000 bytes, though all would fit


def test_rows_picked_from_a_table_cost_no_instructions_for_the_others():
    card = parameters.card(SHEET)
    few, many = (
        kernels.parts(card, embedding(B=1, N=1, D=4096, V=V), "bf16", "")[0].body(0.0).seconds for V in (1000, 128256)
    )
    assert few == many


def test_a_vector_by_a_matrix_is_split_in_batches_too():
    card = parameters.card(gpu("a100"), "family")
    one, two = (tiles.body(card, products.Product(1, 16384, 64, batch, 4, 4, 4), "fp32").seconds for batch in (1, 2))
    assert two < 2 * one


def test_every_term_is_explained():
    from perfmodel.report.times import SENTENCES

    for line in LINES:
        for protocol in ("cold", "warm", "eager"):
            assert {term.name for term in timed({**line, "protocol": protocol}).terms} <= SENTENCES.keys(), line


def test_the_kernels_of_a_page_and_what_is_around_them_add_up():
    from perfmodel.report import times

    found = timed({"op": "layer", "shape": {"B": 1, "N": 512, "D": 1024, "H": 8}, "dtype": "bf16", "protocol": "cold"})
    lines = times._by_kernel(found)
    assert [line.name for line in lines if line.name[0].isdigit()][:3] == ["1 norm", "2 qkv", "3 attention"]
    whole = sum(line.seconds for line in lines if not line.name.startswith(times.OF_KERNEL))
    assert isclose(whole, found.expected_s, rel_tol=1e-9)


@pytest.mark.parametrize("op", ["softmax", "layernorm", "softmax_backward"])
def test_a_followed_kernel_of_ours_pays_for_all_of_its_bytes(op):
    card = parameters.card(SHEET)
    row = Row(65536, 4096, 2)
    (own,) = own_rows.forward(card, op if op.endswith("backward") else f"{op}_forward", row)
    alone, followed = (sequence.run(card, [own], followed=is_followed)[0] for is_followed in (False, True))
    inputs = 2 if op.endswith("backward") else 1
    whole_s = (inputs + 1) * row.byte / stream.rate(card, inputs * row.byte, row.byte)
    assert alone.seconds < followed.seconds
    assert followed.seconds >= whole_s


def test_a_multiprocessor_seats_as_many_threads_as_its_sheet_says():
    launch_ = blocks.Launch("p", 10_000, 256, 1e6, 1e6, 10)
    resident = {
        name: blocks.resident_blocks(parameters.card(gpu(name), "family"), launch_) for name in ("h200", "l4", "t4")
    }
    assert resident == {"h200": 8, "l4": 6, "t4": 4}  # 2048, 1536 and 1024 threads


def test_rows_are_estimated_on_a_card_of_few_threads():
    """A block of long rows fits at least once, whatever a GPU file states."""
    figure = SHEET.multiprocessor["threads"]
    small = SHEET._replace(multiprocessor={**SHEET.multiprocessor, "threads": figure._replace(value=256.0)})
    for op in ("layernorm", "layernorm_backward", "softmax"):
        (found,) = predictions([case({"op": op, "shape": {"rows": 16384, "cols": 60000}, "impl": "ours"})], small)
        assert found.expected.expected_s > 0


def test_a_serving_stack_quantises_before_an_fp8_product():
    line = {"op": "matmul", "shape": {"m": 4096, "k": 4096, "n": 4096}, "dtype": "fp8", "protocol": "warm"}
    sheet = gpu("h100-sxm5-80gb")
    seconds = {}
    for impl in ("torch", *runs.SCALES):
        total, time = predicted(case({**line, "impl": impl}), rates(sheet, "fp8"), parameters.card(sheet, "family"))
        seconds[impl] = time.expected_s
        # Read in half precision, written and read in fp8; the result in half precision. Scales of 4 bytes are written and
        # read: one, one of each row, or 32 of each row. A given one is read twice.
        known = {"torch": 0, "static_scale": 1, "tensor_scale": 1, "token_scale": 4096, "block_scale": 32 * 4096}
        scales = known[impl.removeprefix("torch_")]
        more = 0 if impl == "torch" else (2 + 1 + 1) * 4096**2 + 2 * 4 * scales
        assert total.traffic_byte == 3 * 4096**2 + more
    assert seconds["torch"] < min(seconds[impl] for impl in seconds if impl != "torch")


def seconds_of(line, sheet="h100-sxm5-80gb"):
    found = gpu(sheet)
    read = case(line)
    return predicted(read, rates(found, read.dtype), parameters.card(found, "family"))[1].expected_s


def test_torch_runs_one_kernel_for_any_scale_of_the_whole_matrix():
    """After a kernel of this package that quantises, the time is that of the plain fp8 product. With a scale for each row or
    block the sum of a long row is not split, so that 16 rows take the steps of one tile one after another.
    """
    line = {"op": "matmul", "shape": {"m": 16, "k": 14336, "n": 4096}, "dtype": "fp8", "protocol": "warm"}
    plain = seconds_of(line)
    quantise = {"shape": {"rows": 16, "cols": 14336}, "dtype": "bf16", "impl": "ours", "protocol": "warm"}
    own = seconds_of({**quantise, "op": "quantise_static"})
    assert isclose(seconds_of({**line, "impl": "torch_static_scale"}), plain + own, rel_tol=0.1)
    for scales in ("token", "block"):
        assert seconds_of({**line, "impl": f"torch_{scales}_scale"}) > 1.3 * (plain + own)


def test_the_rows_of_experts_are_padded_to_clusters():
    """2048 tokens choose 6 of 64 experts: 192 rows each, in a cluster of two tiles of 128 rows. 16 tokens choose 2 of 8: 4 rows
    each, in a cluster of two tiles of 64 rows. Padding is not read: 192 of 256 rows, 4 of 128.
    """
    fact = runs.GroupedGemm((1, 2048, 6), 7168, 4096, 64.0, routed=runs.Routed((1, 2048), 64, 6, 0))
    found = grouped.padded(fact)
    assert (found.m, found.batch, found.items.left) == (256, 64, 2 * 192 / 256)
    few = grouped.padded(runs.GroupedGemm((1, 16, 2), 4096, 4096, 7.9, routed=runs.Routed((1, 16), 8, 2, 0)))
    assert (few.m, few.batch, few.items.left) == (128, 8, 2 * 32 / (128 * 8))


def test_torch_converts_integer_weights_again_for_every_few_rows():
    """Twice the rows, twice the time: of 4-bit weights in tiles of 8 rows, of 8-bit weights in groups of 4."""
    for op, height in (("linear_int4", 8), ("linear_int8", 4)):
        line = {"op": op, "dtype": "bf16", "impl": "torch", "protocol": "warm"}
        few, more, same = (
            seconds_of({**line, "shape": {"B": 1, "N": height * 64 * by - less, "D_in": 4096, "D_out": 4096}})
            for by, less in ((1, 0), (2, 0), (1, height - 1))
        )
        assert isclose(more, 2 * few, rel_tol=0.05)
        assert isclose(same, few, rel_tol=0.02)
        stack = {**line, "impl": "serving", "shape": {"B": 1, "N": 2048, "D_in": 4096, "D_out": 4096}}
        assert seconds_of({**stack, "impl": "torch"}) > 10 * seconds_of(stack)


def test_a_quantising_implementation_refuses_half_precision():
    with pytest.raises(InputError, match="static_scale quantises the left operand, but the product is in bf16"):
        case({"op": "matmul", "shape": {"m": 8, "k": 8, "n": 8}, "dtype": "bf16", "impl": "static_scale"})
    with pytest.raises(InputError, match="in int8; it is accepted with fp8"):
        case({"op": "matmul", "shape": {"m": 8, "k": 8, "n": 8}, "dtype": "int8", "impl": "torch_token_scale"})


def test_the_experts_of_a_serving_stack_are_slower_than_a_grouped_product():
    line = {
        "op": "expert_linear",
        "shape": {"B": 1, "N": 4096, "D_in": 4096, "D_out": 4096, "E": 8, "A": 2},
        "dtype": "bf16",
    }
    sheet = gpu("h100-sxm5-80gb")
    card = parameters.card(sheet, "family")
    library, triton = (
        predicted(case({**line, "impl": impl}), rates(sheet, "bf16"), card)[1].expected_s
        for impl in ("torch", "serving")
    )
    assert library * 1.3 < triton < library * 3


def test_latent_attention_reads_its_cache_once():
    """The values are part of the keys: 16 x 131072 tokens of 576 halves are 2.4 GB, 0.72 ms of an H100."""
    line = {
        "op": "mla_latent_attention",
        "shape": {"B": 16, "H": 16, "N": 1, "S": 131072, "r": 512, "d_r": 64},
        "dtype": "bf16",
    }
    sheet = gpu("h100-sxm5-80gb")
    total, time = predicted(case(line), rates(sheet, "bf16"), parameters.card(sheet, "family"))
    assert total.lower_s == pytest.approx(2 * 16 * 131072 * 576 / 3.352e12, rel=0.01)
    assert time.expected_s < 1.3 * total.lower_s
