"""Train the tiny checkpoint on the workbook's own prose: `python -m labs.model.train_tiny [--out DIR]`.

A byte-level BPE tokenizer of 2,048 tokens and a Qwen2ForCausalLM of 2.9 million parameters, trained on the
CPU in minutes, small enough to lie in the repository. The lab needs a checkpoint that real servers load
without a network and that has something to say; it does not need a good model, and this one knows its text by
heart.
"""

import argparse
import json
import math
import sys
import time
from pathlib import Path
from typing import Any

from labs.core.atomic import write_text
from labs.core.errors import UserError
from labs.core.paths import TINY_MODEL
from labs.core.provenance import versions
from labs.model.corpus import collect, digest

VOCAB = 2048
END, PAD = "<|endoftext|>", "<|pad|>"  # ids 0 and 1
CONTEXT = 256  # tokens of a training sequence
CONFIG: dict[str, Any] = {
    "architectures": ["Qwen2ForCausalLM"],
    "attention_dropout": 0.0,
    "bos_token_id": None,
    "eos_token_id": 0,
    "pad_token_id": 1,
    "hidden_act": "silu",
    "hidden_size": 256,
    "initializer_range": 0.05,  # the default 0.02 of wide models learns far slower at this width
    "intermediate_size": 512,
    "max_position_embeddings": 2048,
    "max_window_layers": 4,
    "model_type": "qwen2",
    "num_attention_heads": 8,
    "num_hidden_layers": 4,
    "num_key_value_heads": 4,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
    "use_cache": True,
    "use_sliding_window": False,
    "vocab_size": VOCAB,
}


def train_tokenizer(texts: list[str]) -> Any:
    """A byte-level BPE of exactly `VOCAB` tokens with Qwen2's rules for cutting text into pieces.

    The rules must be Qwen2's: transformers takes them from the model's family, not from tokenizer.json.
    Every byte is a token, so any text in Unicode's NFC form round-trips.
    """
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
    from transformers import Qwen2Tokenizer

    rules = Qwen2Tokenizer().backend_tokenizer
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = rules.normalizer or normalizers.NFC()
    tokenizer.pre_tokenizer = rules.pre_tokenizer
    tokenizer.decoder = rules.decoder
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB,
        special_tokens=[END, PAD],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    if (found := tokenizer.get_vocab_size()) != VOCAB:
        raise UserError(f"the corpus gives only {found} of {VOCAB} tokens: it has too little text")
    return tokenizer


def encode(tokenizer: Any, texts: list[str]) -> list[int]:
    """All documents as one stream of token ids, each one followed by the end token."""
    end = tokenizer.token_to_id(END)
    return [token for text in texts for token in [*tokenizer.encode(text).ids, end]]


def learning_rate(step: int, steps: int, peak: float) -> float:
    """Linear warm-up over the first 5 % of the steps, then a cosine down to a hundredth of the peak."""
    warmup = max(1, steps // 20)
    if step < warmup:
        return peak * (step + 1) / warmup
    progress = (step - warmup) / max(1, steps - warmup)
    return peak * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress)))


def train(stream: list[int], *, steps: int, batch: int, peak: float, seed: int) -> Any:
    """(model in float32, facts about the run)."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(seed)
    model = Qwen2ForCausalLM(Qwen2Config(**{k: v for k, v in CONFIG.items() if k != "torch_dtype"})).float()
    model.train()
    decayed = [p for p in model.parameters() if p.dim() > 1]
    plain = [p for p in model.parameters() if p.dim() <= 1]  # norms and biases
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": plain, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=peak, betas=(0.9, 0.95))
    tokens = torch.tensor(stream, dtype=torch.long)
    picks = torch.Generator().manual_seed(seed)
    window = torch.arange(CONTEXT)
    losses: list[float] = []
    start = time.perf_counter()
    for step in range(steps):
        starts = torch.randint(len(stream) - CONTEXT + 1, (batch, 1), generator=picks)
        ids_BT = tokens[starts + window]
        rate = learning_rate(step, steps, peak)
        for group in optimizer.param_groups:
            group["lr"] = rate
        loss = model(input_ids=ids_BT, labels=ids_BT, use_cache=False).loss
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
        if step % 100 == 0 or step == steps - 1:
            spent = time.perf_counter() - start
            speed = (step + 1) * batch * CONTEXT / spent
            print(f"step {step:5d}  loss {losses[-1]:.3f}  {speed:,.0f} tokens/s  {spent:.0f} s", flush=True)
    seconds = time.perf_counter() - start
    tail = losses[-20:]
    facts = {
        "steps": steps,
        "batch": batch,
        "context": CONTEXT,
        "peak_learning_rate": peak,
        "seed": seed,
        "first_loss": round(losses[0], 4),
        "final_loss": round(sum(tail) / len(tail), 4),
        "trained_tokens": steps * batch * CONTEXT,
        "seconds": round(seconds, 1),
        "tokens_per_second": round(steps * batch * CONTEXT / seconds),
        "threads": torch.get_num_threads(),
        "parameters": sum(p.numel() for p in model.parameters()),
    }
    return model, facts


def save(out: Path, model: Any, tokenizer: Any, facts: dict[str, Any]) -> None:
    """Write the checkpoint (bfloat16) as a Hugging Face folder, each file whole or not at all."""
    import torch
    from safetensors.torch import save_file

    out.mkdir(parents=True, exist_ok=True)
    weights = {
        name: tensor.detach().to(torch.bfloat16).contiguous()
        for name, tensor in model.state_dict().items()
        if name != "lm_head.weight"  # tied: the embedding is the output matrix, and it is stored once
    }
    temporary = out / ".model.safetensors"
    save_file(weights, temporary, metadata={"format": "pt"})
    temporary.chmod(0o644)
    temporary.replace(out / "model.safetensors")
    settings = {
        "tokenizer_class": "Qwen2Tokenizer",
        "model_max_length": CONFIG["max_position_embeddings"],
        "clean_up_tokenization_spaces": False,
        "eos_token": END,
        "pad_token": PAD,
    }
    generation = {"do_sample": False, "eos_token_id": 0, "pad_token_id": 1}
    write_text(out / "tokenizer.json", tokenizer.to_str(pretty=False) + "\n")
    for name, data in (
        ("config", CONFIG),
        ("generation_config", generation),
        ("tokenizer_config", settings),
        ("training", facts),
    ):
        write_text(out / f"{name}.json", json.dumps(data, indent=2, ensure_ascii=False) + "\n")


def main(arguments: list[str] | None = None) -> int:
    """Train, save, and say what came out."""
    parser = argparse.ArgumentParser(prog="python -m labs.model.train_tiny", description=__doc__)
    parser.add_argument("--out", type=Path, default=TINY_MODEL, help="folder to write (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=3000, help="optimizer steps (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=2, help="sequences a step (default: %(default)s)")
    parser.add_argument("--lr", type=float, default=2e-3, help="peak learning rate (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of weights and batches (default: %(default)s)")
    chosen = parser.parse_args(arguments)
    documents = collect()
    texts = list(documents.values())
    tokenizer = train_tokenizer(texts)
    stream = encode(tokenizer, texts)
    characters = sum(map(len, texts))
    print(f"{len(documents)} documents, {characters:,} characters, {len(stream):,} tokens", flush=True)
    model, facts = train(stream, steps=chosen.steps, batch=chosen.batch, peak=chosen.lr, seed=chosen.seed)
    facts["corpus"] = {
        "documents": len(documents),
        "characters": characters,
        "tokens": len(stream),
        "sha256": digest(documents),
    }
    facts["versions"] = {k: v for k, v in versions().items() if k in ("python", "torch", "transformers")}
    options = f"--steps {chosen.steps} --batch {chosen.batch} --lr {chosen.lr} --seed {chosen.seed}"
    facts["command"] = f"python -m labs.model.train_tiny {options}"
    save(chosen.out, model, tokenizer, facts)
    size = sum(path.stat().st_size for path in chosen.out.iterdir())
    print(f"{chosen.out}: {size / 1e6:.1f} MB, loss {facts['final_loss']}, {facts['seconds']} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
