"""The ramp: what it does to the learning rate, and that it makes no other run of any other run."""

import numpy as np
import pytest

from s3bench import schedule
from s3bench.record import identity
from s3bench.run.config.compose import run_config
from s3bench.run.ramp import ramp


def test_the_rate_is_calm_and_then_grows_by_the_same_factor_at_every_step_to_1_at_the_horizon():
    factors = [ramp(step, horizon=600, calm=0.0833, start=1e-4) for step in range(601)]
    assert factors[:51] == [1e-4] * 51
    growth = np.diff(np.log(factors[50:]))
    assert growth == pytest.approx(np.log(1e4) / 550)
    assert factors[600] == 1
    assert max(factors) == 1


@pytest.mark.parametrize("calm", [0, 0.999])
def test_a_ramp_without_calm_steps_or_with_hardly_any_others_stays_within_its_bounds(calm):
    factors = [ramp(step, horizon=10, calm=calm, start=0.01) for step in range(11)]
    assert (factors[0], factors[10]) == (0.01, 1)
    assert factors == sorted(factors)


@pytest.mark.parametrize(("name", "value"), [("calm", 1), ("calm", -0.1), ("start", 0), ("start", 1)])
def test_an_argument_outside_its_range_is_named(name, value):
    with pytest.raises(ValueError, match=f"{name} is {value}; it must be"):
        ramp(0, **{"horizon": 10, "calm": 0.1, "start": 0.01, name: value})


def test_its_code_counts_and_is_no_part_of_the_code_of_the_other_schedules():
    of_ramp = run_config(["schedule=ramp"])
    assert of_ramp.schedule["_target_"] == identity.RAMP
    assert of_ramp.code["schedule"] not in ("", run_config([]).code["schedule"])
    assert not hasattr(schedule, "ramp")
    assert run_config(["schedule=constant"]).schedule["_target_"] == identity.CONSTANT
