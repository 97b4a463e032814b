"""Figures of a serving stack, each with its formula."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from perfmodel.service.answer import Service
    from perfmodel.service.load import Point, Stack


class Figure(NamedTuple):
    """A figure: its key in JSON, its group and name in tables, its value, its unit, and its formula."""

    key: str
    group: str
    name: str
    value: float
    unit: str
    formula: str


def of(found: Service, stack: Stack) -> Iterator[Figure]:
    """All figures, in the order of the table."""
    yield from _unloaded(found, stack)
    yield from _memory(found)
    if found.speculation:
        yield from _speculation(found)
    if found.request.disaggregated:
        yield Figure("transfer_s", "disaggregation", "transfer of a prompt's cache", stack.transfer_s, "s",
                     f"cache of {found.request.prompt:,} tokens on one rank / rate of the {found.request.disaggregated} link, after its latency")  # fmt: skip
    yield Figure("limit_per_s", "load", "highest stable rate", found.limit_per_s, "requests/s",
                 "bisection: load of prompts < 1 and decoding sequences <= largest batch")  # fmt: skip
    if found.point:
        yield from _loaded(found, found.point, stack)
    if found.goodput_per_s is not None:
        wanted = [
            f"{name} <= {value:g} s"
            for name, value in (("TTFT", found.targets.first_s), ("TPOT", found.targets.token_s))
            if value
        ]
        yield Figure(
            "goodput_per_s",
            "load",
            "goodput",
            found.goodput_per_s,
            "requests/s",
            f"highest rate with mean {' and '.join(wanted)}, bisection",
        )


def _unloaded(found: Service, stack: Stack) -> Iterator[Figure]:
    asked, group = found.request, "without load"
    new = sum(chunk.tokens * times for chunk, times in stack.steps(asked.prompt))
    yield Figure("prompt_steps", group, "steps of a prompt", sum(times for _, times in stack.steps(asked.prompt)), "",
                 f"ceil({new:,.0f} tokens / chunk)" if asked.chunk else "1: whole prompts")  # fmt: skip
    yield Figure("ttft_unloaded_s", group, "time to first token", stack.prompt_s(asked.prompt), "s",
                 f"sum of the steps of {new:,.0f} new tokens over {asked.prompt - new:,.0f} cached ones")  # fmt: skip
    yield Figure(
        "tpot_unloaded_s",
        group,
        "time per output token",
        stack.decode_s(1),
        "s",
        f"t(1): a step of one sequence of {asked.context:,} tokens (prompt + output / 2)",
    )
    yield Figure(
        "step_at_largest_s", group, "step at the largest batch", stack.decode_s(stack.most), "s", f"t({stack.most:,})"
    )
    if asked.chunk:
        n = stack.most
        mixed_s = stack.prompt_moments(float(n)).mean_s / stack.step_count
        yield Figure(
            "mixed_step_at_largest_s",
            group,
            "mixed step at the largest batch",
            mixed_s,
            "s",
            f"a chunk of {asked.chunk:,} tokens and {n:,} decoding sequences: the longest gap between two tokens",
        )


def _memory(found: Service) -> Iterator[Figure]:
    held, group = found.memory, "memory of one GPU"
    length = found.request.prompt + found.request.output
    yield Figure("weight_byte", group, "weights", held.weight_byte, "B", "parameters of one rank x bytes each")
    yield Figure(
        "cache_byte_per_token",
        group,
        "cache per token",
        held.token_byte,
        "B",
        "keys and values of all layers on one rank",
    )
    yield Figure(
        "cache_byte_per_sequence",
        group,
        "cache per sequence",
        held.sequence_byte,
        "B",
        f"ceil({length:,} / {held.block}) blocks of {held.block} tokens",
    )
    yield Figure(
        "paging_waste",
        group,
        "waste by blocks",
        held.waste,
        "share",
        f"((block - 1) / 2) / (length + (block - 1) / 2), length {length:,}",
    )
    yield Figure(
        "largest_batch",
        group,
        "largest batch",
        held.largest_batch,
        "sequences",
        f"floor({held.room_byte / 1e9:,.2f} GB / cache per sequence); reserve, weights and workspace stay free",
    )


def _speculation(found: Service) -> Iterator[Figure]:
    said, group = found.speculation, "speculation"
    assert said is not None
    yield Figure(
        "accepted_tokens",
        group,
        "tokens of a round",
        said.tokens,
        "",
        f"(1 - a^(g+1)) / (1 - a), a = {said.acceptance:g}, g = {said.length}",
    )
    yield Figure("draft_s", group, "proposals", said.draft_s, "s", "g steps of the draft model")
    yield Figure("verify_s", group, "verification", said.verify_s, "s", "a step of g + 1 tokens")
    yield Figure(
        "speculation_speedup",
        group,
        "speed-up",
        said.speedup,
        "",
        "t(1) x tokens of a round / (proposals + verification)",
    )
    if said.break_even is not None:
        yield Figure(
            "break_even_acceptance",
            group,
            "break-even acceptance",
            said.break_even,
            "",
            "a with (1 - a^(g+1)) / (1 - a) = (proposals + verification) / t(1)",
        )


def _loaded(found: Service, at: Point, stack: Stack) -> Iterator[Figure]:
    group, asked = f"at {at.rate_per_s:g} requests/s", found.request
    square = stack.prompt_moments(at.decoding).square_s2
    yield Figure("load", group, "load of prompts", at.load, "share", "rate x E[s], s: processing of a prompt")
    yield Figure("prompt_s", group, "processing of a prompt", at.prompt_s, "s", "E[s] over the prompt lengths")
    law = "Pollaczek-Khinchine: rate E[s^2] / (2 (1 - load))"
    more = "" if asked.disaggregated else ", + (1 - exp(-n)) t(n) / 2 for the step that runs (M/G/1 with vacations)"
    yield Figure("wait_s", group, "wait", at.wait_s, "s", f"{law}, E[s^2] = {square:.4g} s^2{more}")
    yield Figure("ttft_s", group, "time to first token", at.first_s, "s", "wait + E[s]")
    yield Figure("ttft_at_least_s", group, "time to first token, no wait", at.prompt_s, "s", "E[s]")
    yield Figure("ttft_at_most_s", group, "time to first token, upper bound", at.wait_at_most_s + at.prompt_s, "s",
                 "Daley, any renewal arrivals of cv 1: (E[s] (2 - load) + rate var(s)) / (2 (1 - load)), + a step, + E[s]")  # fmt: skip
    yield Figure("tpot_s", group, "time per output token", at.token_s, "s", _token_law(found, at.cluster))
    yield Figure("tpot_at_least_s", group, "time per output token, alone", stack.decode_s(1), "s", "t(1)")
    worst_s = stack.token_s(at.rate_per_s, float(stack.most), at.first_s)
    yield Figure(
        "tpot_at_most_s",
        group,
        "time per output token, largest batch",
        worst_s,
        "s",
        f"the same with {stack.most:,} sequences",
    )
    yield Figure(
        "decoding_sequences",
        group,
        "decoding sequences n",
        at.decoding,
        "",
        "Little: n = rate x (output - 1) x time per token",
    )
    yield Figure("step_s", group, "decoding step", at.step_s, "s", "t(n)")
    yield Figure(
        "output_tokens_per_s", group, "output tokens", at.rate_per_s * asked.output, "tokens/s", "rate x output"
    )
    yield Figure(
        "request_s",
        group,
        "whole request",
        at.first_s + (asked.output - 1) * at.token_s,
        "s",
        "TTFT + (output - 1) TPOT",
    )


def _token_law(found: Service, cluster: float) -> str:
    if found.request.disaggregated:
        return "t(1 + n) (processor sharing), + transfer / (output - 1)"
    behind = "B = load / (1 - load) x TTFT for the prompts behind"
    if found.request.chunk:
        return f"u = 1 / (load / m + (1 - load) / t(1 + n)), m: mixed step; u + B (1 - u / m) / (output - 1), {behind}"
    return f"t(c + n) / (1 - load) + B / (output - 1), c = {cluster:.3g}: sequences that start together, {behind}"
