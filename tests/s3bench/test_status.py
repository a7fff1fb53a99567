"""Status: how much time is left."""

from s3bench.status import duration, seconds_left


def test_the_time_left_is_from_each_tasks_own_speed():
    known = [("slow", 20.0, 10), ("fast", 1.0, 100)]
    assert seconds_left(known, [("slow", 5), ("fast", 100)], at_once=1) == 10 + 1
    assert seconds_left(known, [("slow", 5), ("fast", 100)], at_once=2) == 5.5
    assert seconds_left(known, [("slow", 5)], at_once=8) == 10  # one run keeps one process busy
    assert seconds_left(known, [("new", 110)], at_once=1) == 21  # at the speed of all together
    assert seconds_left([("slow", 3.0, 0)], [("slow", 5)], at_once=1) is None
    assert seconds_left(known, [], at_once=2) == 0


def test_durations_read_well():
    texts = {None: "?", 0.4: "0 s", 59.6: "1 min 0 s", 61: "1 min 1 s", 3599: "59 min 59 s", 7260: "2 h 1 min"}
    assert [duration(seconds) for seconds in texts] == list(texts.values())
