"""Writes the words on losses and steps of Chinese, Japanese and Korean consoles in English."""

import re

FULL_WIDTH = str.maketrans("：，；（）＝［］｜", ":,;()=[]|")
OF_EVALUATION = "验证|驗證|测试|測試|検証|テスト|검증|테스트"
OF_TRAINING = "训练|訓練|学習|훈련|학습"
LOSS = "损失|損失|손실"
BEFORE_LATIN = re.compile("(?<=[\u3040-\u9fff\uac00-\ud7af])(?=[A-Za-z])")
ENGLISH = tuple(
    (re.compile(pattern, re.IGNORECASE), plain)
    for pattern, plain in (
        (rf"(?:{OF_EVALUATION})集?的?平?均?\s*(?:{LOSS})(?:函数)?值?", "val loss"),
        (rf"(?:{OF_TRAINING})集?的?\s*(?:{LOSS})(?:函数)?值?", "train loss"),
        (rf"(?:平均)\s*(?:{LOSS})值?", "average loss"),
        (rf"总(?:{LOSS})值?", "total loss"),
        (rf"(?:{LOSS})(?:函数)?值?", "loss"),
        (r"第\s*(\d+)\s*(?:轮|輪|个?epoch|エポック|에폭)(?:训练)?", r"epoch \1 "),
        (r"第\s*(\d+)\s*(?:步|次迭代|ステップ)", r"step \1 "),
        (r"(?:轮次|轮数|训练轮|エポック|에폭|에포크)\s*[:=]?\s*(?=\[?\d)", "epoch "),
        (r"(?:步数|迭代次数|迭代|ステップ|스텝)\s*[:=]?\s*(?=\[?\d)", "step "),
    )
)


def in_english(line: str) -> str:
    """Return a line with English words for a loss, an epoch and a step, and with plain signs."""
    line = line.translate(FULL_WIDTH)
    for pattern, plain in ENGLISH:
        line = pattern.sub(plain, line)
    return BEFORE_LATIN.sub(" ", line)
