"""Rewrites what a line says in words as pairs: "the loss after 3 epochs is 2.5" as "the loss: 2.5 | epoch 3"."""

import re

from s3bench.curve_files.names import ALL_STEPS, OF_QUALIFIER, PROCESS_NAMES, RUN_NAMES

FIELD = 80  # words of a key have fewer characters
NUMBER = r"[-+]?(?:(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?|nan\b|inf\b|infinity\b)"
WORD = rf"[a-z_][\w./()'-]{{0,{FIELD}}}+"  # possessive: what follows a word is no part of one
LEADING_NUMBER = "leading number"
STEP = "epoch|step|iteration|iter|batch"
AFTER_STEPS = re.compile(  # "Average loss after 10 steps: 2.5"
    rf"(?<![\w./-])(?P<key>{WORD}(?: {WORD})?) (?:at|after) (?P<at>\d+) (?P<step>{STEP})(?:e?s)?\s*[:=]\s*(?={NUMBER})",
    re.IGNORECASE,
)
AT_STEP = re.compile(  # "Loss at step 100: 2.5", "Training loss (for one batch) at step 1 is 2"
    rf"(?<![\w./-])(?P<key>{WORD}(?: {WORD})?)(?: \([a-z ]{{1,40}}\))? (?:at|after|on|in|for|of)(?: the)?(?: end of)? "
    rf"(?P<step>{STEP}) (?P<at>\d+)(?: and (?P<inner>step|iteration|iter|batch) (?P<of>\d+))?"
    rf"(?:\s*[:=]\s*| is | was )(?={NUMBER})",
    re.IGNORECASE,
)
AFTER_N = re.compile(  # "After 3 epochs, the loss is 2.5"
    rf"(?:^|[,;|])\s*(?:after|at) (?P<at>\d+) (?P<step>{STEP})(?:e?s)?,? (?=[a-z])", re.IGNORECASE
)
AT = re.compile(r"\b(?:at|after|on|in|for|of) ", re.IGNORECASE)
IN_PARENTHESES = re.compile(  # "Accuracy (step 10): 0.5"
    rf"(?<![\w./-])(?P<key>{WORD}) ?[(] ?(?P<step>{STEP}) *[:=]? *(?P<at>\d+) ?[)]\s*[:=]?\s*(?={NUMBER})",
    re.IGNORECASE,
)
TWO_SIDES = re.compile(  # "train/val loss: 2.5 / 2.6", "loss (train/val): 2.5/2.6"
    r"(?P<before>loss(?:es)?)?\s*\(?\b(?P<train>train(?:ing)?)(?:[ _](?P<first>loss))?\s*[/|]\s*"
    r"(?P<val>val|valid|validation|test|dev|eval)\)?[ _]?(?P<loss>loss(?:es)?)?"
    rf"(?:\s*[:=]\s*|\s+)(?P<value>{NUMBER})\s*[/|,]\s*(?P<other>{NUMBER})",
    re.IGNORECASE,
)
SIDES_AFTER = re.compile(  # "loss 0.5 (train), 0.6 (dev)"
    rf"(?<![\w./-])(?P<key>{WORD})(?:\s*[:=]\s*|\s+)(?P<value>{NUMBER}) ?\((?P<train>train(?:ing)?)\)[,;/|]? +"
    rf"(?P<other>{NUMBER}) ?\((?P<val>val|valid|validation|test|dev|eval)\)",
    re.IGNORECASE,
)
ALTERNATING = re.compile(  # "iteration,1,loss,2.5"
    rf"^\s*[a-z_][\w./ ]{{0,{FIELD}}},\s*{NUMBER}(?:,\s*[a-z_][\w./ ]{{0,{FIELD}}},\s*{NUMBER})+\s*\Z", re.IGNORECASE
)
FROM_TO = re.compile(  # "loss decreased from 9.5 to 2.5"
    rf"(?<=loss)(?P<words>(?: [a-z]+){{0,3}}) from {NUMBER} (?:down )?to (?={NUMBER})", re.IGNORECASE
)
QUALIFIED = re.compile(  # "loss over the last 100 steps: 2.5", "loss for class 1: 2.5", "loss #3: 2.5"
    r"(?P<loss>loss[a-z_]*+)(?P<middle>\s*+[(\[@]?(?:\s*+[a-z][a-z'-]*+){0,6}?)(?P<mark>\s*[#@(\[:=.]?\s*)"
    r"(?<![a-z_])(?P<number>\d+(?:\.\d+)?)(?:\s*(?:/|\bof\b)\s*\d+)?(?P<unit>(?:[ -][a-z]+){0,3}?)(?P<close>\s*[)\]])?"
    rf"(?P<sign>\s*[:=]\s*|,? (?:is|was|of|equals) |\s+)(?P<value>{NUMBER})(?![\d.]*\d|\s*[:=]\s*\d|\s+[-+*]\s)",
    re.IGNORECASE,
)
QUALIFIERS = {"over", "of", "on", "for", "per", "with", "last", "averaged", "avg", "from", "in", "after", "at", "every"}
QUALIFIERS |= {"each", "during", "across"}
OF_EXTENT = {"last", "over", "of", "past", "previous", "per", "every"}  # how many values a mean is over
OF_STEPS = {"after", "at"}
OF_NUMBERS = {"no", "nr", "number", "num"}


def in_pairs(line: str) -> str:
    """Return a line with what it says of a value in words as pairs of their own."""
    line = ALTERNATING.sub(_with_colons, line) if line.count(",") > 2 else line
    if "(" in line:
        line = IN_PARENTHESES.sub(r" \g<step> \g<at> | \g<key>: ", line)
        line = SIDES_AFTER.sub(r"| \g<train> \g<key>: \g<value> | \g<val> \g<key>: \g<other>", line)
    line = TWO_SIDES.sub(_each_side, line) if "/" in line or "|" in line else line
    if AT.search(line):
        line = AFTER_N.sub(r" \g<step> \g<at> | ", line)
        line = AFTER_STEPS.sub(r" \g<step> \g<at> | \g<key>: ", AT_STEP.sub(_step_first, line))
    return QUALIFIED.sub(_qualified, FROM_TO.sub(r"\g<words>: ", line)) if "loss" in line.lower() else line


def _with_colons(found: "re.Match[str]") -> str:
    """Return "iteration: 1 | loss: 2.5" of "iteration,1,loss,2.5"."""
    cells = found[0].strip().split(",")
    return " | ".join(f"{key}: {value}" for key, value in zip(cells[::2], cells[1::2], strict=True))


def _step_first(found: "re.Match[str]") -> str:
    """Return "step 100 | Loss: " of "Loss at step 100: "."""
    inner = f"{found['inner']} {found['of']} | " if found["inner"] else ""
    return f" {found['step']} {found['at']} | {inner}{found['key']}: "


def _each_side(found: "re.Match[str]") -> str:
    """Return "train loss: 2.5 | val loss: 2.6" of "train/val loss: 2.5 / 2.6"."""
    loss = found["loss"] or found["before"]
    if loss is None:
        return found[0]
    return f"| {found['train']} {loss}: {found['value']} | {found['val']} {loss}: {found['other']}"


def _qualified(found: "re.Match[str]") -> str:
    """Return "loss: 2.5 | epoch 3" of "loss after 3 epochs is 2.5", and what is no such phrase as it is.

    The first number is that of a step, of what the loss is of, or how many values it is a mean over.
    """
    words, unit = re.findall(r"[a-z'-]+", found["middle"].lower()), found["unit"].lower().split()
    last = words[-1] if words else ""
    is_told = bool(found["sign"].strip())
    is_whole = found["number"].isdigit()
    in_parentheses = any(sign in found["middle"] + found["mark"] for sign in "([")
    is_index = is_whole and (is_told or not found["value"].isdigit()) and found["mark"].strip() not in (":", "=")
    if not (words or is_index) or in_parentheses != (found["close"] is not None):
        return found[0]
    if not (is_told or in_parentheses) and not (is_whole and (not words or words[0] in QUALIFIERS)):
        return found[0]
    if unit:
        return _with_unit(found, last, unit[-1]) if is_whole and last in QUALIFIERS else found[0]
    if not words or last in OF_NUMBERS | OF_STEPS:
        beside = f"{LEADING_NUMBER} {found['number']}"
    elif last.rstrip("s") in ALL_STEPS or last in PROCESS_NAMES + RUN_NAMES:
        beside = f"{last} {found['number']}"
    elif last in OF_EXTENT:
        beside = ""
    else:
        name = found["loss"] if in_parentheses else " ".join([found["loss"], *words])
        return f"{name}: {found['value']} | {OF_QUALIFIER}{last} {found['number']} | "
    return f"{found['loss']}: {found['value']} | {beside} | "


def _with_unit(found: "re.Match[str]", before: str, unit: str) -> str:
    """Return the pair of a loss "after 3 epochs", or "over 100 samples"; what is neither as it is."""
    one = next((name for name in (unit[:-1], unit[:-2]) if unit.endswith("s") and name in ALL_STEPS), None)
    if one is not None and before in OF_STEPS:
        return f"{found['loss']}: {found['value']} | {one} {found['number']} | "
    return f"{found['loss']}: {found['value']} | " if unit.endswith("s") and unit != "loss" else found[0]
