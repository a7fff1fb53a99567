"""Tells by their names which column is the loss, which are the steps, and which say what kind of row it is."""

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

from s3bench.errors import UserError, unknown

# The words beside "loss" in a column's name: those of a training loss, of another loss, and of what is no loss at all
OF_TRAINING = {"train", "training", "trained", "trainer", "step", "batch", "iter", "current", "trn", "tr"}
OF_EVALUATION = {"val", "valid", "validation", "validating", "eval", "evaluation", "evaluating", "test", "testing"}
OF_EVALUATION |= {"dev", "cv", "heldout", "holdout", "evaluate", "validate", "infer", "inference"}
OF_EVALUATION |= {"evaluated", "validated", "tested", "tst", "vld"}
OF_OTHERS = OF_EVALUATION | {"best", "min", "max", "std", "var", "scale", "scaler", "weight", "weights", "coef"}
OF_OTHERS |= {"tokens", "token", "count", "counts", "num", "number", "samples", "time", "ratio", "norm", "grad"}
OF_CHANGES = {"improvement", "improved", "gap", "delta", "diff", "difference", "change"}
OF_OTHERS |= OF_CHANGES
OF_MEANS = {"avg", "avr", "average", "averaged", "mean", "ema", "smooth", "smoothed", "running", "moving", "rolling"}
OF_MEANS |= {"median"}
OF_SUMS = {"total", "sum", "overall", "combined", "all"}
OF_SCORES = {
    "reward",
    "rewards",
    "return",
    "returns",
    "score",
    "acc",
    "accuracy",
    "f1",
    "auc",
    "map",
    "iou",
    "dice",
    "bleu",
}
OF_GAMES = {"wins", "draws", "ties"}  # beside which "losses" are games
OF_SIDES = {"aux", "auxiliary", "z", "balance", "balancing", "router", "reg", "regularization", "mask"}
# Words for a loss where none is called one
OTHER_WORDS = ("cost", "costs", "objective", "nll", "mse", "rmse", "error", "err", "ce", "bce", "xent")
PIXELS = "l_pix"  # BasicSR's: the loss where no other name begins with "l_", and else a term of it
OF_TERMS = {"rec", "recon", "reconstruction", "kl", "kld", "ce", "bce", "mse", "cls", "conf", "box", "adv", "gan"}
OF_TERMS |= {"x", "y", "w", "h"}  # as YOLOv3 writes them
STEP_NAMES: tuple[str, ...] = (
    "step",
    "global_step",
    "steps",
    "current_steps",
    "current_step",
    "num_updates",
    "train_step",
)
STEP_NAMES += ("training_step", "train_steps", "optimizer_step", "optim_step", "total_timesteps", "num_timesteps")
STEP_NAMES += ("timesteps", "timestep", "iteration", "iterations", "iter", "iters", "itr", "it", "current_iteration")
STEP_NAMES += ("current_iter", "training_iteration", "iter_num", "n_iter", "step_num", "update", "updates", "n_updates")
WANDB_STEP = "_step"  # counts the calls of log, which a trainer's own steps are better than
EPOCH_NAMES = ("epoch", "epochs", "epoch_num", "current_epoch", "ep", "round")
WITHIN_EPOCH = ("batch", "batch_idx", "batch_index", "minibatch", "batch_num", "batch_id", "batches")
ALL_STEPS = {*STEP_NAMES, *EPOCH_NAMES, *WITHIN_EPOCH}
AFTER = " ->"  # ends the name of a second value, as in "loss: 10.0 -> 9.0"
NO_STEPS = "none"
KIND_NAMES = ("split", "mode", "phase", "kind", "stage", "event", "type", "row_type", "job_type", "subset")
RUN_NAMES: tuple[str, ...] = (
    "run",
    "run_id",
    "run_name",
    "name",
    "experiment",
    "exp",
    "seed",
    "trial",
    "model",
    "optimizer",
    "opt",
    "method",
)
RUN_NAMES += ("algo", "algorithm", "config", "job", "job_id", "fold", "client", "agent", "env", "task", "dataset")
RUN_NAMES += ("domain", "head", "replicate", "repeat", "cell")
OF_PARTS = {
    "task",
    "dataset",
    "domain",
    "head",
    "env",
    "agent",
    "model",
    "optimizer",
    "opt",
    "name",
    "config",
    "method",
}
OF_QUALIFIER = "of "  # begins the name of what a loss is of: "loss for class 1: 2.5" has "of class" 1
PROCESS_NAMES = ("rank", "worker", "process", "process_index")  # of one run, which may log the same
ABROAD = re.compile(  # a word on an evaluation in another language
    r"(?:.*[^未])?(?:验证|驗證|测试|測試|检验|検証|評価|テスト|검증|평가)(?:集|中|结果|結果)?|валидаци[яи]|проверка|тест|validierung"
    r"|validaci[oó]n|validaç[aã]o|validazione|évaluation|teste|prueba",
    re.IGNORECASE,
)
WITHOUT_VALUE = re.compile(  # "val_loss None", "val acc: -", "best_eval", "val improved"
    r"(?:\b(?:val|valid|validation|test|eval|dev)[ _.-]+|(?<!\S))\S{0,40}?(?:loss|acc|ppl|auc)\S{0,40}?\s*[:=]?\s*"
    r"(?:None|N/?A|null|skipped|-{1,3})(?![\w/-])|(?<!\S)\S{0,40}?\bbest_\S+"
    r"|\b(?:val|valid|validation|test|eval|dev)\b[ _.-]*(?:\S+ )?(?:has |did )?(?:not )?improved?\b",
    re.IGNORECASE,
)
BEFORE_LOSS = re.compile(r"(?<=.)(?=loss(?:es)?$)")
CACHED = 10_000  # names that need not be taken apart again: a console has them in every line
SHOWN = 30  # columns that a message lists


def find_loss(file: object, named: str | None, names: Sequence[str], hint: str = "") -> tuple[str, list[str]]:
    """Return the loss's column, and the losses that it may be: more than one if the names do not tell.

    In a wandb export, a column may be named without its run: "train/loss" is "calm-sun-1 - train/loss". In a file of
    numbers alone, one a line, the only column is the loss. The hint ends the refusal.

    Raises:
        UserError: the named column is not there, or no column is named like a training loss.
    """
    if named is None:
        found = likely_losses(names) or [name for name in names if len(names) == 1 and name.isdigit()]
        if not found:
            choice = f"choose one with --column: {listed(names)}{hint}"
            raise UserError(f"{file}: no column is named like a training loss; {choice}")
        return found[0], found
    if named in names:
        return named, [named]
    found = [name for name in names if name.endswith(f" - {named}")]
    if not found:
        raise unknown(f"column of {file}", named, names)
    return found[0], found


def by_other_words(names: Iterable[str]) -> list[str]:
    """Return the columns of a training that have another word for a loss: "train error"."""
    found = {name: words(name) for name in names}
    return [name for name, own in found.items() if own & {*OTHER_WORDS} and not own & OF_OTHERS and "loss" not in own]


def likely_losses(names: Iterable[str]) -> list[str]:
    """Return the columns that are the training loss by their names; several if they do not tell.

    The value of a step goes before a mean, the sum of all terms before one, and a term before a side term. A sum beside
    what is just called a loss leaves it open which one was trained on.
    """
    names = list(names)
    losses = {name: words(name) for name in losses_among(names)}
    values = {name: found for name, found in losses.items() if not found & (OF_MEANS | {"epoch"})}
    exact = [name for name in values if name.lower() == "loss"]
    plain = [name for name, found in values.items() if not found - OF_TRAINING - {"loss"}]
    sums = [name for name, found in values.items() if found & OF_SUMS and not found - OF_TRAINING - OF_SUMS - {"loss"}]
    main = [name for name, found in values.items() if not found & OF_SIDES]
    main += [name for name, found in losses.items() if found & OF_MEANS and main and _is_of_another(found, values)]
    means = [name for name, found in losses.items() if "epoch" not in found]
    means = [name for name in means if not losses[name] - OF_MEANS - OF_TRAINING - {"loss"}] or means
    found = (["loss"] if "loss" in exact else exact or plain) + sums
    found += [name for name in values if _is_per_token(name)] if found == sums else []
    terms = [name for name in main if name not in sums]  # one is no term of a sum, but the same loss otherwise
    found += terms if found and found == sums and len(terms) == 1 and "sum" in words(sums[0]) else []
    found = found or main or list(values) or means or list(losses)
    return found or _downloaded(names)


def losses_among(names: Iterable[str]) -> list[str]:
    """Return the columns that are losses of a training, or terms or means of one."""
    names = list(names)
    is_of_games = any(normal(name) in OF_GAMES for name in names)
    names = [name for name in names if not name.startswith("_") and "loss" in words(name)]
    names = [name for name in names if not (is_of_games and normal(name) == "losses")]
    return [name for name in names if not words(name) & OF_OTHERS or _is_metered(name, names) or _is_per_token(name)]


def _is_of_another(found: frozenset[str], values: Mapping[str, frozenset[str]]) -> bool:
    """Return whether a mean is that of no loss whose values are there, and of no side term."""
    known = [value - {"val"} for value in values.values()]  # which is a meter's last value
    return not found & (OF_SIDES | {"epoch"}) and found - OF_MEANS not in known


def _is_per_token(name: str) -> bool:
    """Return whether a loss is one per token, which beside a sum is the loss that others compare."""
    return "per" in words(name) and not words(name) & OF_EVALUATION


def _is_metered(name: str, names: list[str]) -> bool:
    """Return whether "val" is a meter's last value, beside its "avg", and not the validation's."""
    return words(name) & OF_OTHERS == {"val"} and name.lower().replace("val", "avg") in map(str.lower, names)


def _downloaded(names: Sequence[str]) -> list[str]:
    """Return the column of values of a chart of TensorBoard's, of an MLflow metric, or of lines like "epoch 3: 2.5"."""
    plain = {normal(name): name for name in names}
    is_one = set(plain) <= {"wall_time", "timestamp", "value", *ALL_STEPS} and len(plain) > 1
    return [plain["value"]] if is_one and "value" in plain else []


def is_mean(name: str) -> bool:
    """Return whether a column is named like a running mean or the mean of an epoch."""
    return bool(words(name) & (OF_MEANS | {"epoch"}))


def is_whole(name: str) -> bool:
    """Return whether a column is named like the whole loss, not like a term of it."""
    return not words(name) - OF_TRAINING - OF_SUMS - {"loss"}


@lru_cache(maxsize=CACHED)
def words(name: str) -> frozenset[str]:
    """Return the words of a column's name, in lower case; for a wandb export's "run - key", those of the key."""
    key = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name.rsplit(" - ", 1)[-1])
    found = re.findall(r"[a-z]+", key.lower())
    parts = frozenset(part for word in found for part in (BEFORE_LOSS.split(word) if "loss" in word else [word]))
    return parts - {"losses"} | {"loss"} if "losses" in parts else parts


@lru_cache(maxsize=CACHED)
def evaluation_in(text: str) -> str:
    """Return the word on an evaluation that a text has, "eval" for one of another language, or ""."""
    text = WITHOUT_VALUE.sub(" ", text)
    if found := words(text) & OF_EVALUATION:
        return min(found)
    return "eval" if any(ABROAD.fullmatch(part.strip("[](){}<>【】:;,.!=*-#|")) for part in text.split()) else ""


@lru_cache(maxsize=CACHED)
def normal(name: str) -> str:
    """Return the last part of a name in lower case, its words joined by _: global_step of Trainer/GlobalStep."""
    tail = re.split(r"[/.]", name.strip())[-1]
    tail = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", tail).lower()
    return re.sub(r"[^a-z0-9]+", "_", tail).strip("_")


def steps_among(names: Iterable[str], known: Sequence[str] = STEP_NAMES) -> list[str]:
    """Return the columns that are named like steps, the likeliest first; wandb's own count is none of them."""
    found = [name for name in names if name != WANDB_STEP and not words(name) & OF_EVALUATION]
    ranked = {name: known.index(normal(name)) for name in found if normal(name) in known}
    return sorted(ranked, key=lambda name: ranked[name])


def listed(names: Sequence[str]) -> str:
    """Return names for a message: not more than somebody reads."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
