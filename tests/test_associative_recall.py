"""The example of associative recall: strings, causality, trained depths, weights by hand, and the price of a step."""

from __future__ import annotations

import json
from itertools import permutations, product
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="the example trains with torch")

import trained  # noqa: E402

from examples.associative_recall import data, look, price, train  # noqa: E402
from examples.associative_recall.by_hand import by_hand  # noqa: E402
from examples.associative_recall.data import SMALL, Task  # noqa: E402
from examples.associative_recall.model import Recaller, Sizes  # noqa: E402

RESULTS = Path(__file__).parent.parent / "benchmarks" / "results"


def random(seed=0):
    return torch.Generator().manual_seed(seed)


def test_a_string_has_different_keys_and_asks_for_each_once():
    for row in data.strings(SMALL, 50, random()).tolist():
        keys, values, asked, answers = row[0:8:2], row[1:8:2], row[8::2], row[9::2]
        assert sorted(keys) == sorted(asked)
        assert len(set(keys)) == 4
        assert [dict(zip(keys, values, strict=True))[key] for key in asked] == answers
        assert max(keys) < 8 <= min(values) <= max(values) < 16


def test_a_target_is_the_next_input():
    given = data.batch(SMALL, 5, random())
    assert given.inputs.shape == given.targets.shape == (5, SMALL.length) == (5, 15)
    assert torch.equal(given.inputs[:, 1:], given.targets[:, :-1])
    assert bool((given.inputs[:, SMALL.answers] < SMALL.keys).all())
    assert bool((given.targets[:, SMALL.answers] >= SMALL.keys).all())
    assert data.spelled(SMALL, torch.tensor([0, 8, 3, 15])) == "a 0 d 7"


def test_no_position_sees_a_later_one():
    torch.manual_seed(0)
    model = Recaller(16, 15, Sizes(layers=2, width=16, heads=2, inner=8))
    one = data.batch(SMALL, 1, random()).inputs
    other = one.clone()
    other[0, 9] = (other[0, 9] + 1) % 16
    with torch.no_grad():
        difference = (model(one) - model(other)).abs().amax(-1)[0]
        patterns = model.patterns(one)
    assert difference[:9].tolist() == [0] * 9
    assert bool((difference[9:] > 0).all())
    assert all(float(pattern.triu(1).abs().max()) == 0 for pattern in patterns)


def test_two_layers_recall_and_one_does_not():
    """The models are those of the book. ``benchmarks/results`` has other seeds."""
    one, two = (trained.once(SMALL, Sizes(layers, width=32, inner=64), steps=250, every=25) for layers in (1, 2))
    # One layer sees which values occur, not which belongs to the key: a guess among four is right in 1 of 4, and more
    # often where values repeat.
    assert 0.2 < one.accuracies[250] < 0.6
    assert two.accuracies[250] >= 0.98
    # The trained heads are those that are written by hand.
    assert max(look.previous_token(two.model, SMALL)) > 0.5
    assert max(look.induction(two.model, SMALL)) > 0.5


def test_the_weights_by_hand_answer_every_string_of_a_task():
    task = Task(pairs=2, keys=3, values=2)
    every = [
        [a, x, b, y, *asked]
        for a, b in permutations(range(3), 2)
        for x, y in product((3, 4), repeat=2)
        for asked in ((a, x, b, y), (b, y, a, x))
    ]
    assert len(every) == 6 * 4 * 2
    whole = torch.tensor(every)
    guessed = by_hand(task)(whole[:, :-1])[:, task.answers].argmax(-1)
    assert torch.equal(guessed, whole[:, 1:][:, task.answers])


def test_the_weights_by_hand_answer_each_of_1000_strings():
    assert train.accuracy(by_hand(Task()), Task(), 1000) == 1.0


def test_the_heads_by_hand_are_a_previous_token_head_and_an_induction_head():
    model, given = by_hand(SMALL), data.batch(SMALL, 1, random()).inputs
    with torch.no_grad():
        first, second = (pattern[0, 0] for pattern in model.patterns(given))
    assert first[1:].argmax(-1).tolist() == list(range(14))
    assert look.previous_token(model, SMALL) == look.induction(model, SMALL) == [pytest.approx(1)]
    for query in range(8, 15, 2):
        seen = given[0, : second[query].argmax()].tolist()
        assert seen[-1] == int(given[0, query])  # the token before the attended one is the key itself


def test_without_the_previous_token_head_the_induction_head_finds_nothing():
    model = by_hand(Task())
    with torch.no_grad():
        model.layers[0].attention.out.weight.zero_()
    assert train.accuracy(model, Task(), 200) < 0.3


@pytest.mark.parametrize("layers", [1, 2])
def test_the_flops_of_a_step_are_those_of_torchs_counter(layers):
    task, sizes = SMALL, Sizes(layers, width=32, inner=64)
    found = price.priced(task, sizes, 8, "h100")
    assert found["contraction_flops"] == price.counted(task, sizes, 8)
    # Forward, and twice as much backward: a position has 8 D^2 + 4 D F of weights and 4 N D of attention in each layer,
    # and 2 D V of logits.
    D, F, V, N = 32, 64, 16, 15
    assert found["contraction_flops"] == 3 * 8 * N * (layers * (8 * D * D + 4 * D * F + 4 * N * D) + 2 * D * V)
    assert found["lower_s"] < found["graph_expected_s"] < found["eager_expected_s"]


def test_the_record_shows_that_two_layers_suffice():
    first, *lines = map(json.loads, (RESULTS / "associative-recall-cpu.jsonl").read_text().splitlines())
    assert "torch" in first["environment"]
    reached = {(line["sizes"]["layers"], line["seed"]): line["accuracy"] for line in lines}
    assert all(share < 0.4 for (layers, _), share in reached.items() if layers < 2)
    assert all(share >= 0.9 for (layers, _), share in reached.items() if layers >= 2)
    assert sum(line["seconds"] for line in lines if line["seed"] == 0) < 120


# --- the commands of the README


def ran(module, monkeypatch, capsys, *arguments):
    monkeypatch.setattr("sys.argv", [module.__name__, *map(str, arguments)])
    module.main()
    return capsys.readouterr().out.splitlines()


def test_the_training_writes_a_record_of_each_depth_and_seed(tmp_path, monkeypatch, capsys):
    path = tmp_path / "run.jsonl"
    out = ran(train, monkeypatch, capsys, "--layers", 0, 1, "--steps", 2, "--seeds", 3, "-o", path)
    assert [line.split()[:2] for line in out] == [["layers", "seed"], ["0", "3"], ["1", "3"]]
    first, *lines = map(json.loads, path.read_text().splitlines())
    assert first["environment"]["torch"] == torch.__version__
    assert [line["sizes"]["layers"] for line in lines] == [0, 1]
    assert all(len(line["losses"]) == 2 and list(line["accuracies"]) == ["2"] for line in lines)


def test_the_model_by_hand_answers_aloud(monkeypatch, capsys):
    from examples.associative_recall import by_hand as module

    told = dict(line.split(maxsplit=1) for line in ran(module, monkeypatch, capsys))
    whole, queries = told["input"].split(), told["queries"].split()
    pairs = dict(zip(whole[0:16:2], whole[1:16:2], strict=True))
    assert told["answers"].split() == [pairs[key] for key in queries]
    assert told["right"] == "100.00% of 1,000 strings"


def test_the_price_says_what_it_needs_to_measure(tmp_path, monkeypatch, capsys):
    path = tmp_path / "price.jsonl"
    out = ran(price, monkeypatch, capsys, "--strings", 2, "--gpu", "t4", "-o", path)
    assert [line.split()[4] for line in out[1:]] == ["eager", "graph"]
    line = json.loads(path.read_text().splitlines()[1])
    assert line["contraction_flops"] == line["torch_flops"] > 0
    if not torch.cuda.is_available():
        with pytest.raises(SystemExit, match="torch finds no CUDA device; --measure needs one"):
            ran(price, monkeypatch, capsys, "--measure")
