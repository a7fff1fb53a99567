"""Writes small data for the language tasks, in the real formats and places, with settings that fit them."""

import gzip
import json
import os
import random
from functools import cache
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from tokenizers import ByteLevelBPETokenizer

WORDS = ["the", "a", "of", "and", "to", "in", "is", "was", "he", "for", "it", "with", "as", "his", "on", "be", "at"]
MODEL = {"batch": 4, "context": 16, "width": 16, "depth": 1, "heads": 2, "vocab_size": 512}
HUB = {
    "wikitext_gpt2": {},
    "openwebtext_gpt2": {"parts": 2, "held_out": 5},
    "openwebtext_gpt2_medium": {"parts": 2, "held_out": 5},
    "c4_gpt2": {"parts": 2, "tokens": 3000},
}


def text(seed, words=200):
    """Return a text; each seed gives another one."""
    generator = random.Random(seed)
    return " ".join(generator.choices(WORDS, k=words)) + f" é {seed}.\n"


def write_parquet(file, texts):
    """Write a Parquet file with a column `text`."""
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"text": texts}), file)


def write_c4(file, texts):
    """Write a file in C4's format."""
    file.parent.mkdir(parents=True, exist_ok=True)
    rows = [{"text": text, "timestamp": "2019-04-25T12:57:54Z", "url": "https://example.com"} for text in texts]
    with gzip.open(file, "wt", encoding="utf-8") as out:
        out.writelines(json.dumps(row) + "\n" for row in rows)


def place_tokenizer(folder):
    """Write a tokenizer of 339 tokens in the place of GPT-2's."""
    tokenizer = ByteLevelBPETokenizer()
    tokenizer.train_from_iterator(map(text, range(40)), vocab_size=338, min_frequency=1, show_progress=False)
    tokenizer.add_special_tokens(["<|endoftext|>"])  # the last token, as in GPT-2
    place = folder / "openai-community" / "gpt2"
    place.mkdir(parents=True)
    tokenizer.save(str(place / "tokenizer.json"))


def place_hub(folder):
    """Write the tokenizer and the data sets of the tasks on the hub's text, as if copied from the hub."""
    place_tokenizer(folder)
    wikitext = folder / "Salesforce" / "wikitext" / "wikitext-103-raw-v1"
    lines = ["", " = Title = \n", "", *map(text, range(30))]
    write_parquet(wikitext / "train-00000-of-00002.parquet", lines)
    write_parquet(wikitext / "train-00001-of-00002.parquet", [text(seed) for seed in range(30, 40)])
    write_parquet(wikitext / "validation-00000-of-00001.parquet", ["", text(50), text(51)])
    for part in range(2):
        texts = [text(seed) for seed in range(20 * part, 20 * part + 20)]
        write_parquet(
            folder / "Skylion007" / "openwebtext" / "plain_text" / f"train-0000{part}-of-00080.parquet", texts
        )
        write_c4(folder / "allenai" / "c4" / "en" / f"c4-train.0000{part}-of-01024.json.gz", texts)
    write_c4(folder / "allenai" / "c4" / "en" / "c4-validation.00000-of-00008.json.gz", [text(50), text(51)])


@cache
def small_data():
    """Return a folder with all of these data, made once per process."""
    folder = Path(os.environ["S3BENCH_DATA"]) / f"language-{os.getpid()}"
    place_hub(folder)
    (folder / "texts").mkdir()
    for seed in range(60):
        (folder / "texts" / f"{seed}.txt").write_text(text(seed), encoding="utf-8")
    return folder


def overrides(name):
    """Return the overrides that make a language task small; none for other tasks."""
    build = dict(MODEL)
    if name == "text_gpt2":
        build["files"] = f"[{small_data()}/texts]"
    elif name in HUB:
        build |= HUB[name]
    elif name != "source_gpt2":
        return []
    place = [f"data_dir={small_data()}"] if name in HUB else []
    return place + [f"task.build.{key}={value}" for key, value in build.items()]
