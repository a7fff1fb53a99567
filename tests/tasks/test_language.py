"""The language tasks: text is read from files of every format and from the hub, and bad input is named."""

import gzip
import itertools
import json
import shutil

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

from s3bench.errors import UserError
from s3bench.run.build import build_parts
from s3bench.run.config.compose import run_config
from tasks.data.documents import PIECE, Position, find_files, read_documents
from tasks.hub_gpt2 import gpt2_tokenizer
from tasks.text_gpt2 import TextGPT2
from tests.tasks.language import HUB, MODEL, overrides, place_hub, text, write_parquet

SMALL = {"batch": 4, "context": 16, "width": 16, "depth": 1, "heads": 2, "vocab_size": 400}
START = Position(0, 0)


def text_task(folder, *files, **more):
    return TextGPT2(0, **{"data_dir": str(folder / "prepared"), "files": list(map(str, files)), **SMALL, **more})


def hub_task(name, folder, *, download=False, **more):
    """Return a task on data in their places in a folder."""
    build = {**MODEL, **HUB[name], **more}
    given = [f"task={name}", f"data_dir={folder}", f"task.download={download}"]
    return build_parts(run_config(given + [f"task.build.{key}={value}" for key, value in build.items()])).task


@pytest.fixture
def hub(tmp_path):
    place_hub(tmp_path)
    return tmp_path


def test_evaluation_in_parts_is_the_mean_over_all_windows(tmp_path, monkeypatch):
    for seed in range(60):
        (tmp_path / f"{seed}.txt").write_text(text(seed), encoding="utf-8")
    task = text_task(tmp_path, tmp_path / "*.txt")
    torch.manual_seed(0)
    model = task.model()
    whole = task.evaluate(model)
    monkeypatch.setattr("tasks.data.tokens.EVAL_TOKENS", 16 * 50)  # 50, 50 and 28 windows
    assert task.evaluate(model) == pytest.approx(whole, rel=1e-6)


# Your own text


@pytest.fixture
def same_text(tmp_path):
    """Write the same 80 documents in every format."""
    texts = [text(seed, 40) for seed in range(80)]
    (tmp_path / "txt").mkdir()
    for index, document in enumerate(texts):
        (tmp_path / "txt" / f"{index:02d}.txt").write_text(document, encoding="utf-8")
    lines = "".join(json.dumps({"id": index, "text": document}) + "\n" for index, document in enumerate(texts))
    (tmp_path / "rows.jsonl").write_text(lines, encoding="utf-8")
    with gzip.open(tmp_path / "rows.json.gz", "wt", encoding="utf-8") as out:
        out.write(lines)
    rows = "".join(f'{index},"{document}"\n' for index, document in enumerate(texts))
    (tmp_path / "rows.csv").write_text("id,text\n" + rows, encoding="utf-8")
    write_parquet(tmp_path / "rows.parquet", texts)
    return tmp_path


FORMATS = ("txt", "rows.jsonl", "rows.json.gz", "rows.csv", "rows.parquet")


def test_every_format_gives_the_same_tokens(same_text):
    assert len({text_task(same_text, same_text / name).fingerprint() for name in FORMATS}) == 1


@pytest.mark.parametrize("name", FORMATS)
def test_reading_goes_on_at_any_place(same_text, name):
    files = [str(file) for file in find_files([str(same_text / name)])] * 2
    whole = list(read_documents(files, None, START))
    assert len(whole) == 160
    for index in (0, 50, 79, 80, 120, 159):
        assert list(read_documents(files, None, whole[index][1])) == whole[index + 1 :]


def test_whole_documents_are_held_out_and_each_ends(same_text):
    task = text_task(same_text, same_text / "rows.jsonl")
    (folder,) = (same_text / "prepared").glob("text-*")
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    end = tokenizer.token_to_id("<|endoftext|>")
    parts = {}
    for part in ("train", "held_out"):
        ids = getattr(task, part)
        assert ids[-1] == end
        pieces = np.split(ids, np.flatnonzero(ids == end) + 1)[:-1]
        parts[part] = {tokenizer.decode(piece[:-1].tolist()) for piece in pieces}
    assert parts["train"] | parts["held_out"] == {text(seed, 40) for seed in range(80)}
    assert not parts["train"] & parts["held_out"]
    assert task.facts["documents"] == {part: len(texts) for part, texts in parts.items()}
    assert task.facts["held_out_bytes"] == sum(len(document.encode()) for document in parts["held_out"])


def test_a_long_text_file_is_cut_at_line_ends(tmp_path):
    content = "".join(f"line {number}\r\n" for number in range(5000))
    (tmp_path / "long.txt").write_bytes(content.encode())
    pieces = [piece for piece, _ in read_documents([str(tmp_path / "long.txt")], None, START)]
    assert "".join(pieces) == content
    assert all(piece.endswith("\n") and len(piece) <= PIECE + 20 for piece in pieces)
    task = text_task(tmp_path, tmp_path / "long.txt")
    assert task.facts["documents"] == {
        "train": len(pieces) - task.facts["documents"]["held_out"],
        **{"held_out": task.facts["documents"]["held_out"]},
    }


def test_files_are_found_by_name_folder_and_pattern(tmp_path, monkeypatch):
    (tmp_path / "texts" / "more").mkdir(parents=True)
    for name in ("texts/b.txt", "texts/more/a.txt", "texts/.hidden", "c.csv"):
        (tmp_path / name).write_text("1")
    monkeypatch.chdir(tmp_path)

    def names(*given):
        return [file.relative_to(tmp_path).as_posix() for file in find_files(list(given))]

    assert names("texts") == ["texts/b.txt", "texts/more/a.txt"]
    assert names("texts/*.txt", "c.csv", "texts/b.txt") == ["c.csv", "texts/b.txt"]
    assert names(f"{tmp_path}/**/*.txt") == ["texts/b.txt", "texts/more/a.txt"]


def test_text_that_has_changed_is_prepared_anew(tmp_path):
    for seed in range(60):
        (tmp_path / f"{seed}.txt").write_text(text(seed), encoding="utf-8")
    before = text_task(tmp_path, tmp_path / "*.txt").fingerprint()
    (tmp_path / "7.txt").write_text(text(99), encoding="utf-8")
    assert text_task(tmp_path, tmp_path / "*.txt").fingerprint() != before


def write(folder, name, content):
    (folder / name).write_bytes(content)
    return folder / name


def rows(texts, column="text"):
    return "".join(json.dumps({column: document}) + "\n" for document in texts).encode()


MANY = rows(text(seed) for seed in range(60))
BAD = {
    "latin1.txt": ("caf\xe9 ".encode("latin-1") * 300, {}, r"latin1.txt is not UTF-8 text: .*after document 0"),
    "latin1.jsonl": (MANY + b'{"text": "\xe9"}\n', {}, r"latin1.jsonl is not UTF-8 text"),
    "empty.txt": (b"", {}, "there is no training text among the 0 documents"),
    "empty.jsonl": (b"", {}, "there is no training text among the 0 documents"),
    "blank.jsonl": (rows(["", ""]), {}, "there is no training text among the 0 documents"),
    "one.txt": (b"one line of text\n", {}, "there is no held-out text among the 1 documents"),
    "short.jsonl": (MANY, {"context": 100000}, r"context is 100000; it must be less than the \d+ tokens of the train"),
    "cut.jsonl": (MANY[:-20], {}, r"cut.jsonl cannot be read: .*JSON"),
    "wrong.parquet": (MANY, {}, r"wrong.parquet cannot be read: .*[Pp]arquet"),
    "cut.json.gz": (gzip.compress(MANY)[:-30], {}, r"cut.json.gz cannot be read"),
    "cut.csv": (b'id,text\n1,"no end', {}, r"cut.csv cannot be read|no held-out text"),
    "column.jsonl": (MANY, {"column": "body"}, r"column.jsonl has no column body; it has text"),
    "which.jsonl": (
        b'{"n": 1, "title": "a", "body": "b"}\n',
        {},
        r"which.jsonl has no column text; .* title, body",
    ),
    "number.jsonl": (rows([1, 2], "number"), {"column": "number"}, r"column number .* holds int, not text, in row 0"),
    "bytes.jsonl": (MANY, {"vocab_size": 256}, "vocab_size is 256; it must be at least 257"),
    "many.jsonl": (MANY, {"vocab_size": 70000}, "vocab_size is 70000; it must be from 256"),
    "width.jsonl": (MANY, {"heads": 3}, "heads must divide width"),
    "depth.jsonl": (MANY, {"depth": 0}, "depth is 0; it must be at least 1"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_text_is_named_in_one_line(tmp_path, name, capfd):
    content, settings, message = BAD[name]
    with pytest.raises(ValueError, match=message) as raised:
        text_task(tmp_path, write(tmp_path, name, content), **settings)
    assert "\n" not in str(raised.value)
    assert all(line.startswith("preparing") for line in capfd.readouterr().err.splitlines())
    assert not list(tmp_path.glob("prepared/text-*/facts.json")) or "context" in settings


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([], r"files is \[\]; it must be a list"),
        (["nowhere.txt"], r"nowhere.txt is not a file, a folder with files, or a pattern"),
    ],
)
def test_files_must_be_there(tmp_path, files, message):
    with pytest.raises(ValueError, match=message):
        TextGPT2(0, data_dir=str(tmp_path), files=files, **SMALL)


def test_a_damaged_parquet_file_is_named(tmp_path):
    write_parquet(tmp_path / "a.parquet", [text(seed) for seed in range(200)])
    content = (tmp_path / "a.parquet").read_bytes()
    with pytest.raises(ValueError, match=r"cut.parquet cannot be read"):
        text_task(tmp_path, write(tmp_path, "cut.parquet", content[: len(content) // 2]))


@pytest.mark.slow
def test_a_run_on_your_own_text_from_the_command_line(tmp_path, s3bench):
    (tmp_path / "mine.jsonl").write_bytes(MANY)
    size = [override for override in overrides("text_gpt2") if "files" not in override]
    result = s3bench("run", "task=text_gpt2", "task.build.files=[mine.jsonl]", *size, "horizon=3", "seed=1")
    assert result.returncode == 0, result.stderr
    result = s3bench("run", "task=text_gpt2", "horizon=3")
    assert result.returncode == 2
    assert "files is []" in result.stderr
    assert result.stderr.count("\n") == 1


# Text of the hub


def test_the_tokenizer_is_read_as_transformers_writes_gpt2s(hub, tmp_path):
    from transformers import GPT2TokenizerFast

    ours = gpt2_tokenizer(hub, 512, download=False)
    parts = json.loads(ours.to_str())["model"]
    merges = [tuple(merge) for merge in parts["merges"]]
    theirs = GPT2TokenizerFast(vocab=parts["vocab"], merges=merges, add_prefix_space=False)
    theirs.save_pretrained(tmp_path / "theirs")
    place = tmp_path / "other" / "openai-community" / "gpt2"
    place.mkdir(parents=True)
    shutil.copy(tmp_path / "theirs" / "tokenizer.json", place)
    other = gpt2_tokenizer(tmp_path / "other", 512, download=False)
    document = text(3) + "  indented\n\n\tand more — 123"
    assert other.encode(document).ids == ours.encode(document).ids == theirs(document)["input_ids"]
    assert ours.decode(ours.encode(document).ids) == document
    assert ours.token_to_id("<|endoftext|>") == ours.get_vocab_size() - 1


def decoded(hub, ids):
    return gpt2_tokenizer(hub, 512, download=False).decode(list(ids), skip_special_tokens=False)


def test_wikitext_is_its_lines_one_after_another(hub):
    task = hub_task("wikitext_gpt2", hub)
    lines = ["", " = Title = \n", "", *(text(seed) for seed in range(40))]
    assert decoded(hub, task.train) == "".join(lines)
    assert decoded(hub, task.held_out) == text(50) + text(51)
    assert task.facts["held_out_bytes"] == len((text(50) + text(51)).encode())


def test_openwebtext_holds_out_documents_by_hash(hub):
    task = hub_task("openwebtext_gpt2", hub)
    parts = [decoded(hub, ids).split("<|endoftext|>") for ids in (task.train, task.held_out)]
    assert [part.pop() for part in parts] == ["", ""]
    assert sorted(parts[0] + parts[1]) == sorted(text(seed) for seed in range(40))
    assert 1 <= len(parts[1]) <= 20
    assert hub_task("openwebtext_gpt2_medium", hub).fingerprint() == task.fingerprint()


def test_c4_ends_after_the_stated_tokens(hub):
    task = hub_task("c4_gpt2", hub)
    assert len(task.train) == 3000
    assert "<|endoftext|>".join(text(seed) for seed in range(40)).startswith(decoded(hub, task.train))
    assert decoded(hub, task.held_out) == "".join(text(seed) + "<|endoftext|>" for seed in (50, 51))


@pytest.mark.parametrize("name", HUB)
def test_once_prepared_nothing_else_is_needed(hub, name):
    task = hub_task(name, hub)
    for folder in ("Salesforce", "Skylion007", "allenai", "openai-community"):
        shutil.rmtree(hub / folder)
    assert hub_task(name, hub).fingerprint() == task.fingerprint()
    assert all(
        torch.equal(one[0], other[0])
        for one, other in itertools.islice(zip(task.batches(9), hub_task(name, hub).batches(9), strict=False), 3)
    )


@pytest.mark.parametrize("name", HUB)
def test_missing_data_say_what_to_do(tmp_path, hub, name):
    with pytest.raises(UserError, match=r"missing: set task.download=true, or copy.* from https://hugging") as raised:
        hub_task(name, tmp_path / "nothing")
    assert "\n" not in str(raised.value)
    assert not str(raised.value).endswith("...")
    shutil.rmtree(hub / "openai-community")
    with pytest.raises(UserError, match=r"GPT-2's tokenizer is missing: set task.download=true, or copy tokenizer"):
        hub_task(name, hub)


def test_a_missing_part_is_not_passed_over(hub):
    (hub / "Salesforce" / "wikitext" / "wikitext-103-raw-v1" / "train-00001-of-00002.parquet").unlink()
    with pytest.raises(UserError, match=r"train-00001-of-00002.parquet missing"):
        hub_task("wikitext_gpt2", hub)


def test_a_hub_that_cannot_be_reached_is_one_line(hub, monkeypatch):
    (hub / "Salesforce" / "wikitext" / "wikitext-103-raw-v1" / "train-00001-of-00002.parquet").unlink()
    monkeypatch.setattr("datasets.config.HF_ENDPOINT", "https://localhost:1")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UserError, match=r"hf://datasets/Salesforce/wikitext@.* cannot be read: ") as raised:
        hub_task("wikitext_gpt2", hub, download=True)
    assert "\n" not in str(raised.value)


def test_a_tokenizer_that_does_not_fit_is_refused(hub):
    with pytest.raises(UserError, match=r"vocab_size is 300; it must be at least 339, the tokens of the tokenizer"):
        hub_task("c4_gpt2", hub, vocab_size=300)
    assert not list(hub.glob("*c4-*"))  # refused before the text is encoded
    hub_task("c4_gpt2", hub)
    with pytest.raises(UserError, match=r"vocab_size is 300; it must be at least 339, the tokens of the encoding"):
        hub_task("c4_gpt2", hub, vocab_size=300)
    file = hub / "openai-community" / "gpt2" / "tokenizer.json"
    file.write_text(file.read_text().replace("<|endoftext|>", "<|end|>"))
    with pytest.raises(UserError, match=r"is not GPT-2's tokenizer: it lacks"):
        hub_task("wikitext_gpt2", hub)
    file.write_text("{}")
    with pytest.raises(UserError, match=r"tokenizer.json is not a tokenizer"):
        hub_task("openwebtext_gpt2", hub)
