"""The checked request to a serving stack: requests, batching, speculation, and targets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from perfmodel.errors import InputError, did_you_mean

LINKS = ("scale-up", "network")
LONGEST = 10**8
LARGEST_CV = 3.0


class Request(NamedTuple):
    """Requests and the options of the stack.

    ``prompt``, ``output``: mean lengths in tokens. ``prompt_cv``: coefficient of variation of the prompt lengths.
    ``prefix``: share of each prompt found in the cache. ``chunk``: prompt tokens of one step, 0 for whole prompts.
    ``disaggregated``: the link over which the cache passes from GPUs for prompts to others for decoding; empty for one
    group of GPUs. ``draft_length``: proposed tokens of a round. ``acceptance``: probability that one is accepted.
    ``block``: tokens of a block of the cache. ``batch``: most sequences that decode together, 0 for what memory allows.
    ``host_gap``: seconds of the host between two steps, by default the model's.
    """

    prompt: int = 512
    output: int = 128
    prompt_cv: float = 0.0
    prefix: float = 0.0
    chunk: int = 0
    disaggregated: str = ""
    draft_length: int = 4
    acceptance: float = 0.7
    block: int = 16
    batch: int = 0
    host_gap: float | None = None

    @property
    def context(self) -> int:
        """The mean context of a decoding sequence."""
        return self.prompt + self.output // 2


def named(fields: Mapping[str, Any]) -> Request:
    """The request of the given fields; an unknown name is an error."""
    unknown = next((name for name in fields if name not in Request._fields), None)
    if unknown is not None:
        raise InputError(f"serve: {unknown}", "it is not a field of a request", f"{', '.join(Request._fields)} are accepted",
                         did_you_mean(unknown, Request._fields))  # fmt: skip
    return Request(**fields)


def checked(request: Request, *, draft: bool) -> Request:
    """The request. Raises InputError for values outside their range."""
    rules = (
        (not 1 <= request.prompt <= LONGEST, "prompt", f"1 to {LONGEST:,} tokens are accepted"),
        (not 2 <= request.output <= LONGEST, "output", f"2 to {LONGEST:,} tokens are accepted"),
        (not 0 <= request.prompt_cv <= LARGEST_CV, "prompt_cv", f"0 to {LARGEST_CV:g} is accepted"),
        (not 0 <= request.prefix < 1, "prefix", "a share of at least 0 and below 1 is accepted"),
        (not 0 <= request.chunk <= LONGEST, "chunk", f"0 (whole prompts) to {LONGEST:,} tokens are accepted"),
        (request.disaggregated not in ("", *LINKS), "disaggregated", f"{' and '.join(LINKS)} are accepted"),
        (not 1 <= request.draft_length <= 64, "draft_length", "1 to 64 tokens are accepted"),
        (not 0 <= request.acceptance <= 1, "acceptance", "a probability from 0 to 1 is accepted"),
        (not 1 <= request.block <= 2**20, "block", "1 to 1,048,576 tokens are accepted"),
        (not 0 <= request.batch <= LONGEST, "batch", f"0 (what memory allows) to {LONGEST:,} sequences are accepted"),
        (
            request.host_gap is not None and not 0 <= request.host_gap <= 1e3,
            "host_gap",
            "0 to 1,000 seconds are accepted",
        ),
    )
    for wrong, name, accepted in rules:
        if wrong:
            option = f"--{name.replace('_', '-')}"
            raise InputError(
                f"serve: {option}", f"{getattr(request, name)!r} is out of range", accepted, f"Change {option}."
            )
    if request.chunk and draft:
        raise InputError("serve: --draft", "it is given together with --chunk", "speculation is accepted with whole prompts",
                         "Remove one of the two.")  # fmt: skip
    if request.chunk and request.disaggregated:
        raise InputError("serve: --chunk", "it is given together with --disaggregated",
                         "chunks are accepted where prompts and decoding share GPUs", "Remove one of the two.")  # fmt: skip
    return request
