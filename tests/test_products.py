"""Counts of matrix products, against those of the textbook."""

from __future__ import annotations

import json

import pytest
from command import check_refused, perfmodel

import perfmodel as library
from perfmodel.products import products


def counted(name, **options):
    return products(library.load(name), **options)


@pytest.mark.parametrize(
    ("name", "launched", "terms"),
    [
        # Three projections, scores and weighted sum for each head; the output projection and two of the MLP.
        ("encoder-block", 8, {"H": 5, "": 3}),
        # The same again for the cross-attention: 5 H + 1.
        ("decoder-block", 14, {"H": 10, "": 4}),
    ],
)
def test_blocks_of_the_textbook(name, launched, terms):
    found = counted(name)
    assert found.products == launched
    assert found.terms == terms
    assert found.by_head == terms["H"] * 8 + terms[""]  # both have eight heads


def test_the_count_follows_the_number_of_heads():
    assert counted("decoder-block", settings={"H": 4}).by_head == 10 * 4 + 4


def test_grouped_queries_share_the_projections_of_keys_and_values():
    # 32 layers: q, scores and values for each of 32 heads, k and v for each of 8; output, gate and up as one, down; logits.
    found = counted("llama-3-8b")
    assert found.terms == {"H": 32 * 3, "H_kv": 32 * 2, "": 32 * 3 + 1}
    assert found.by_head == 96 * 32 + 64 * 8 + 97
    assert found.products == 32 * 8 + 1


def test_training_has_two_gradients_for_each_product():
    # 6 of the forward pass, in training; every product has two gradients, those of q, k, v as one product each.
    forward, train = counted("mlp-4096"), counted("mlp-4096", phase="train")
    assert (forward.products, train.products) == (2, 6)


@pytest.mark.parametrize("name", ["encoder-block", "decoder-block", "gpt2-124m", "deepseek-v2-lite", "mixtral-8x7b"])
def test_every_kernel_of_contractions_is_counted(name):
    """A kernel whose FLOPs contain products is a line, and no other is."""
    rows = library.analyse(name, fused=False).rows
    assert [line.name for line in counted(name).lines] == [row.name for row in rows if row.contraction_flops]


def test_the_command_prints_the_formula_and_a_document():
    assert (
        "total                         14  10 H + 4              84"
        in perfmodel("flops", "--config", "decoder-block", "--products").out
    )
    document = json.loads(perfmodel("flops", "--config", "decoder-block", "--products", "--format", "json").out)
    assert document["total"] == {"products": 14, "by_head": 84}
    assert document["steps"][0] == {"name": "self.qkv.q", "repeat": 1, "products": 1, "heads": "H", "by_head": 8}


@pytest.mark.parametrize("others", [["--gpu", "a100"], ["--symbolic"], ["--fused"], ["--tp", "2", "--gpu", "a100"]])
def test_options_without_effect_are_refused(others):
    found = check_refused(perfmodel("flops", "--config", "encoder-block", "--products", *others))
    assert "--products" in found[0]


def test_an_operation_without_products_is_refused():
    found = check_refused(perfmodel("flops", "--op", "softmax", "--products"))
    assert found["found"] == "no kernel is a matrix product"
