"""Status: how much time is left."""

from s3bench import record
from s3bench.config import as_dict, run_config
from s3bench.status import duration, seconds_left, show


def test_a_run_under_way_shows_its_step_and_its_spikes_so_far(tmp_path, capsys):
    config = as_dict(run_config(["horizon=1000", f"results_dir={tmp_path}"]))
    losses = [2.0 - 0.001 * step + 0.01 * (step % 3) for step in range(300)]
    losses[200:210] = [9.0] * 10
    folder = record.plan(config)
    with record.claimed(folder), record.Writer(folder, config) as writer:
        show(tmp_path)
        assert "step 0 of 1,000\n" in capsys.readouterr().out
        writer.add_steps([{"step": step, "loss": loss} for step, loss in enumerate(losses)])
        show(tmp_path)
    assert "step 300 of 1,000; spikes so far: 1, the last from step 200\n" in capsys.readouterr().out


def test_the_time_left_is_from_each_tasks_own_speed():
    known = [("slow", 20.0, 10), ("fast", 1.0, 100)]
    assert seconds_left(known, [("slow", 5), ("fast", 100)], at_once=1) == 10 + 1
    assert seconds_left(known, [("slow", 5), ("fast", 100)], at_once=2) == 5.5
    assert seconds_left(known, [("new", 110)], at_once=1) == 21  # at the speed of all together
    assert seconds_left([("slow", 3.0, 0)], [("slow", 5)], at_once=1) is None
    assert seconds_left(known, [], at_once=2) == 0


def test_durations_read_well():
    texts = {None: "?", 0.4: "0 s", 59.6: "1 min 0 s", 61: "1 min 1 s", 3599: "59 min 59 s", 7260: "2 h 1 min"}
    assert [duration(seconds) for seconds in texts] == list(texts.values())
