"""The tiny checkpoint loads without a network, has the promised shape, and writes the workbook's words."""

import json
import socket

import pytest

from labs.core.errors import UserError
from labs.core.paths import TINY_MODEL
from labs.model.architecture import parameters, valid_tp
from labs.model.corpus import collect, digest, docstrings, markdown_cells, words
from labs.model.train_tiny import END, PAD, VOCAB, learning_rate, main, train_tokenizer

PROMPTS = ("Tensor parallelism", "The engine", "A request")


@pytest.fixture(scope="module")
def corpus():
    return collect()


@pytest.fixture(scope="module")
def loaded():
    """(tokenizer, model) as transformers loads them from the folder, with every connection refused."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    def refuse(*_):
        raise AssertionError("loading the tiny checkpoint opened a connection")

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setattr(socket.socket, "connect", refuse)
        tokenizer = AutoTokenizer.from_pretrained(TINY_MODEL)
        model = AutoModelForCausalLM.from_pretrained(TINY_MODEL).eval()
    return tokenizer, model


def continuation(loaded, prompt: str, tokens: int = 64) -> str:
    tokenizer, model = loaded
    ids = tokenizer(prompt, return_tensors="pt").input_ids
    written = model.generate(ids, max_new_tokens=tokens, do_sample=False)[0, ids.shape[1] :]
    return tokenizer.decode(written, skip_special_tokens=True)


def test_the_folder_is_small_and_complete():
    sizes = {path.name: path.stat().st_size for path in TINY_MODEL.iterdir()}
    assert sum(sizes.values()) <= 8_000_000
    assert sizes.keys() >= {
        "README.md",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "training.json",
    }


def test_the_shape_divides_by_4_and_its_record_agrees():
    config = json.loads((TINY_MODEL / "config.json").read_text())
    assert {2, 4} <= set(valid_tp(config))
    facts = json.loads((TINY_MODEL / "training.json").read_text())
    assert facts["parameters"] == parameters(config)
    assert facts["trained_tokens"] == facts["steps"] * facts["batch"] * facts["context"]
    assert len(facts["corpus"]["sha256"]) == 64


def test_it_loads_in_bfloat16_with_tied_embeddings(loaded):
    import torch

    _, model = loaded
    assert model.dtype == torch.bfloat16
    assert model.lm_head.weight.data_ptr() == model.model.embed_tokens.weight.data_ptr()


def test_the_tokenizer_is_the_one_it_was_trained_with(loaded, corpus):
    from tokenizers import Tokenizer

    tokenizer, _ = loaded
    assert (len(tokenizer), tokenizer.eos_token, tokenizer.pad_token) == (VOCAB, END, PAD)
    assert (tokenizer.eos_token_id, tokenizer.pad_token_id) == (0, 1)
    saved = Tokenizer.from_file(str(TINY_MODEL / "tokenizer.json"))
    for text in list(corpus.values())[::5]:
        assert tokenizer(text[:4000]).input_ids == saved.encode(text[:4000]).ids


@pytest.mark.parametrize(
    "text", ["Two ranks, one all-reduce.", "  spaces\n\n\ttabs ", "naïve µs × 3 – 中文 🙂", "a" * 300]
)
def test_the_tokenizer_round_trips_any_text(loaded, text):
    tokenizer, _ = loaded
    assert tokenizer.decode(tokenizer(text).input_ids) == text


def test_the_tokenizer_round_trips_the_corpus_and_compresses_it(loaded, corpus):
    tokenizer, _ = loaded
    text = max(corpus.values(), key=len)[:8000]
    ids = tokenizer(text).input_ids
    assert tokenizer.decode(ids) == text
    assert len(ids) < len(text) / 2


def test_it_predicts_the_corpus_far_better_than_chance(loaded, corpus):
    import torch

    tokenizer, model = loaded
    text = max(corpus.values(), key=len)
    ids = torch.tensor([tokenizer(text[:3000]).input_ids[:256]])
    with torch.no_grad():
        loss = model(input_ids=ids, labels=ids).loss.item()
    assert loss < 5.0  # nats a token; guessing among 2,048 costs 7.6


def test_it_writes_words_of_the_corpus(loaded, corpus):
    known = set(words(" ".join(corpus.values())))
    written = [word for prompt in PROMPTS for word in words(continuation(loaded, prompt))]
    assert len(written) >= 40
    assert len(set(written)) >= 15  # not one word over and over
    assert sum(word in known for word in written) >= 0.8 * len(written), written


def test_greedy_decoding_is_decided_clearly_at_most_steps(loaded):
    """Between TP=1 and TP=2 only the order of additions differs; a decided argmax survives that."""
    import torch

    tokenizer, model = loaded
    gaps = []
    for prompt in PROMPTS:
        ids = tokenizer(prompt, return_tensors="pt").input_ids
        out = model.generate(
            ids, max_new_tokens=32, do_sample=False, return_dict_in_generate=True, output_logits=True
        )
        for logits in out.logits:
            first, second = torch.topk(logits[0].float(), 2).values.tolist()
            gaps.append(first - second)
    gaps.sort()
    assert gaps[len(gaps) // 2] > 0.5


def test_training_gives_a_checkpoint_that_loads_and_repeats(tmp_path, capsys):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    for name in ("a", "b"):
        assert main(["--out", str(tmp_path / name), "--steps", "2", "--batch", "1", "--seed", "3"]) == 0
    facts = [json.loads((tmp_path / name / "training.json").read_text()) for name in ("a", "b")]
    assert facts[0]["corpus"] == facts[1]["corpus"]
    assert facts[0]["first_loss"] == pytest.approx(facts[1]["first_loss"], rel=1e-3)
    assert "tokens/s" in capsys.readouterr().out
    assert len(AutoTokenizer.from_pretrained(tmp_path / "a")) == VOCAB
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "a")
    assert sum(p.numel() for p in model.parameters()) == facts[0]["parameters"]
    assert not list((tmp_path / "a").glob(".*"))  # no half-written file


def test_too_little_text_is_refused():
    with pytest.raises(UserError, match="too little text"):
        train_tokenizer(["two words"])


def test_the_learning_rate_rises_then_falls():
    rates = [learning_rate(step, 100, 1.0) for step in range(100)]
    assert max(rates) == pytest.approx(1.0)
    assert rates.index(max(rates)) in (4, 5)
    assert rates[0] < 0.3
    assert rates[-1] < 0.02


def test_the_corpus_is_prose_in_a_fixed_order(tmp_path):
    (tmp_path / "weeks" / "week1").mkdir(parents=True)
    (tmp_path / "labs" / "tests").mkdir(parents=True)
    (tmp_path / "README.md").write_text("# Front\n")
    (tmp_path / "weeks" / "week1" / "README.md").write_text("Guide.\n")
    (tmp_path / "weeks" / "week1" / "01_a.py").write_text(
        "# %% [markdown]\n# # Title\n#\n# A cell.\n# %%\nx = 1\n# %% [markdown] tags=[]\n# Last.\n"
    )
    (tmp_path / "labs" / "a.py").write_text('"""Module."""\n\n\ndef f():\n    """Function."""\n')
    (tmp_path / "labs" / "bare.py").write_text("x = 1\n")
    (tmp_path / "labs" / "tests" / "t.py").write_text('"""A test."""\n')
    found = collect(tmp_path)
    assert list(found) == ["README.md", "labs/a.py", "weeks/week1/01_a.py", "weeks/week1/README.md"]
    assert found["labs/a.py"] == "Module.\n\nFunction."
    assert found["weeks/week1/01_a.py"] == "# Title\n\nA cell.\n\nLast."
    assert digest(found) != digest(found | {"README.md": "# Back"})


def test_markdown_cells_and_docstrings_of_nothing():
    assert markdown_cells("x = 1\n") == ""
    assert docstrings("x = 1\n") == ""
