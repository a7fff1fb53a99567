"""Tests sweeps on a real SLURM of one node and on a real Ray, both started here, on the loopback interface."""

import dataclasses
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
import yaml

from s3bench import record
from s3bench.errors import UserError
from s3bench.run.config.grid import run_configs
from s3bench.run.config.schema import as_dict
from s3bench.run.sweep import cluster, cluster_job, ray_tasks
from s3bench.run.sweep import slurm as slurm_launcher
from tests.conftest import ROOT, mistake, until
from tests.s3bench.run.interrupted import same

CLI = Path(sys.executable).with_name("s3bench")
ONE_NODE = ROOT / "scripts" / "one_node_slurm.sh"
FOUR = ["task=quadratic", "optimizer=s3,adamw", "seed=0,1", "horizon=200", "results_dir=r"]
ON_SLURM = ["launcher=slurm", "launcher.runs_per_job=2"]
ON_RAY = ["launcher=ray", "launcher.runs_per_job=2"]
PATIENT = """\
import time
from pathlib import Path
from tasks.quadratic import Quadratic

class Patient(Quadratic):
    \"\"\"Trains when there is a file named go.\"\"\"
    def loss(self, model, batch):
        while not Path("go").exists():
            time.sleep(0.05)
        return super().loss(model, batch)
"""
WAITING = ["task.build._target_=patient.Patient", *FOUR]


class Sweep:
    """Starts a sweep in a folder of its own; its runs wait for the file `go`."""

    def __init__(self, folder, *overrides, command="sweep", **environment):
        (folder / "patient.py").write_text(PATIENT)
        self.folder, self.out = folder, folder / f"out-{time.monotonic_ns()}"
        with self.out.open("w") as out:
            self.process = subprocess.Popen(
                [str(CLI), command, *overrides],
                cwd=folder,
                env={**os.environ, **environment},
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell may have disabled it
            )

    def printed(self):
        return self.out.read_text()

    def under_way(self, runs):
        """Wait until this many runs have started and wait for `go`."""
        until(lambda: self.process.poll() is not None or len(list(self.folder.glob("r/*/evals.*.jsonl"))) >= runs)
        assert self.process.poll() is None, self.printed()

    def go(self):
        (self.folder / "go").touch()

    def ended(self, seconds=240):
        try:
            return self.process.wait(seconds)
        finally:
            if self.process.poll() is None:
                os.killpg(self.process.pid, signal.SIGKILL)


def states(folder):
    return sorted(record.load_records(folder / "r").state)


# Without a cluster


@pytest.mark.slow
def test_a_pack_trains_its_unfinished_runs_through_a_launcher_of_hydra(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    configs = run_configs([*FOUR, "launcher=slurm"])
    done = record.plan(as_dict(configs[0]))
    assert (
        subprocess.run([str(CLI), "run", *FOUR[:1], "optimizer=s3", "seed=0", *FOUR[3:]], check=False).returncode == 0
    )
    written = (done / record.SUMMARY).stat().st_mtime_ns
    folder = tmp_path / "packs"
    runs = [[(config, record.plan(as_dict(config))) for config in part] for part in (configs[:3], configs[3:])]
    cluster.write_packs(folder, runs, {})
    command = [sys.executable, "-P", "-m", "s3bench.run.sweep.cluster_submit", str(folder), "basic"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        printed = process.stdout.read()
    assert process.returncode == 0, printed
    assert states(tmp_path) == ["finished"] * 4
    assert (done / record.SUMMARY).stat().st_mtime_ns == written
    assert "[2/2]" in printed  # of the first pack
    assert "[1/1]" in printed


def test_a_pack_is_read_back_as_it_was_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    configs = run_configs(["task=quadratic,nonconvex", "optimizer=s3,sgd", "clip=global_norm", "clip.max_norm=1.5"])
    cluster_job.write(tmp_path, 3, configs)
    assert cluster_job.read(tmp_path, 3) == (tmp_path, configs)


MINE = """\
import torch

class Mine(torch.optim.SGD):
    def __init__(self, params, lr):
        super().__init__(params, lr=lr, momentum={})
"""


def test_a_job_whose_code_changed_while_it_waited_fails_its_runs_and_says_so(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs" / "optimizer").mkdir(parents=True)
    (tmp_path / "configs" / "optimizer" / "mine.yaml").write_text("# mine\n_target_: mine.Mine\n_partial_: true\n")
    (tmp_path / "mine.py").write_text(MINE.format(0))
    program = "\n".join(
        (
            "import sys",
            "from pathlib import Path",
            "from s3bench.run.config.grid import run_configs",
            "from s3bench.run.sweep import cluster_job",
            "sys.path.append('.')",
            "configs = run_configs(['task=quadratic', 'optimizer=mine,sgd', 'horizon=20', 'results_dir=r'])",
            "cluster_job.write(Path.cwd(), 0, configs)",
            f"Path('mine.py').write_text({MINE.format(0.99)!r})  # while the job waits",
            "cluster_job.train(Path.cwd(), 0)",
        )
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    outcomes = {
        record.load_config(folder)["names"]["optimizer"]: record.outcome(folder) for folder in record.folders("r")
    }
    assert outcomes["sgd"] == "finished"
    assert re.fullmatch(
        "failed: its optimizer's code [0-9a-f]{12} is now [0-9a-f]{12}: changed since the sweep began; sweep again",
        outcomes["mine"],
    )


def packed(*overrides):
    configs = run_configs(["task=quadratic", *overrides])
    return cluster.pack_runs([(config, Path(config.run_id)) for config in configs])


def test_packs_have_the_requested_size_unless_slurm_would_refuse_so_many_jobs():
    packs = packed("seed=range(0,10)", "launcher=slurm", "launcher.runs_per_job=4")
    assert [len(runs) for runs in packs] == [4, 4, 2]
    assert [config.seed for runs in packs for config, _ in runs] == list(range(10))
    packs = packed("seed=range(0,1100)", "launcher=slurm", "launcher.runs_per_job=1")
    assert len(packs) == 550


def test_a_job_trains_as_many_runs_at_a_time_as_it_has_cores():
    def jobs(*overrides):
        return packed(*overrides)[0][0][0].launcher["jobs"]

    assert jobs("launcher=slurm") == 1
    assert jobs("launcher=slurm", "launcher.cpus_per_task=6", "threads=2") == 3
    assert jobs("launcher=slurm", "launcher.cpus_per_task=6", "launcher.jobs=5") == 5
    assert jobs("launcher=slurm", "launcher.cpus_per_task=6", "launcher.gpus_per_node=1") is None  # its GPUs decide
    assert jobs("launcher=ray", "launcher.remote.num_cpus=4") == 4
    assert jobs("launcher=ray", "launcher.remote.num_gpus=1") is None


def test_every_key_of_the_slurm_launcher_is_one_of_submitits():
    plugin = pytest.importorskip("hydra_plugins.hydra_submitit_launcher.config")
    keys = set(yaml.safe_load((ROOT / "configs/launcher/slurm.yaml").read_text()))
    assert keys - set(cluster.OURS) <= {field.name for field in dataclasses.fields(plugin.SlurmQueueConf)}


def test_a_users_launcher_can_extend_an_existing_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs/launcher").mkdir(parents=True)
    text = "# Our cluster\ndefaults: [slurm, _self_]\npartition: gpu\ngpus_per_node: 1\n"
    (tmp_path / "configs/launcher/ours.yaml").write_text(text)
    (config,) = run_configs(["task=quadratic", "launcher=ours"])
    assert config.launcher["partition"] == "gpu"
    assert config.launcher["hydra_launcher"] == "submitit_slurm"


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("launcher.partion=gpu", "Did you mean launcher.partition"),
        ("launcher.timeout_min=long", "launcher.timeout_min=long: it must be of the same type as 240"),
        ("launcher.runs_per_job=0", "launcher.runs_per_job is 0; it must be a positive integer"),
    ],
)
def test_a_wrong_setting_is_reported_on_one_line(override, said):
    with pytest.raises(UserError, match=re.escape(said)):
        packed("launcher=slurm", override)


@pytest.mark.parametrize(("kind", "extra"), [(slurm_launcher, "slurm"), (ray_tasks, "ray")])
def test_an_extra_that_is_not_installed_is_named(kind, extra, monkeypatch):
    monkeypatch.setattr(kind, "find_spec", lambda _: None)
    with pytest.raises(UserError, match=re.escape(f"pip install 's3bench[{extra}]'")):
        (slurm_launcher.Slurm if kind is slurm_launcher else ray_tasks.Ray).check({})


def test_a_machine_without_slurm_is_reported_on_one_line(s3bench):
    pytest.importorskip("submitit")
    assert "sbatch is not on the PATH" in mistake(s3bench("sweep", *FOUR, *ON_SLURM, PATH="/nowhere"))
    assert "sbatch is not on the PATH" in mistake(s3bench("run", "launcher=slurm", PATH="/nowhere"))


def test_torchrun_cannot_start_a_run_that_a_launcher_would_train_elsewhere(s3bench):
    of_torchrun = {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "2"}
    assert "torchrun starts a run here" in mistake(s3bench("run", "launcher=ray", **of_torchrun))


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("launcher.address=127.0.0.1:1", "no Ray answers at launcher.address=127.0.0.1:1"),
        ("launcher.address=here", "launcher.address is here; it must be HOST:PORT"),
        ("launcher.remote.num_cpus=5000", "launcher.remote.num_cpus is 5000; Ray on this machine has"),
    ],
)
def test_a_ray_that_is_not_available_is_reported_on_one_line(s3bench, override, said):
    pytest.importorskip("ray")
    assert said in mistake(s3bench("sweep", *FOUR, *ON_RAY, override))


# On SLURM


@pytest.fixture(scope="module")
def start_slurm():
    """Return a function that starts a SLURM of one node and returns the environment that leads to it."""
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    folders = []

    def start(*options):
        needed = ["slurmctld", "slurmd", "munged", "sbatch"] + ["slurmdbd", "mariadbd"] * ("--accounting" in options)
        if missing := [program for program in needed if not shutil.which(program)]:
            pytest.skip(
                f"SLURM is not installed: no {', '.join(missing)}; the packages are listed at the top of the script"
            )
        if os.geteuid():
            pytest.skip("a SLURM of one node is started as root")
        folder = Path(tempfile.mkdtemp(prefix="s3slurm"))  # readable for all users, unlike pytest's folders
        folders.append(folder)
        started = subprocess.run([ONE_NODE, "up", folder, *options], capture_output=True, text=True, check=False)
        assert started.returncode == 0, started.stderr
        return {"SLURM_CONF": str(folder / "slurm.conf")}

    yield start
    for folder in folders:
        subprocess.run([ONE_NODE, "down", folder], check=False)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def slurm(start_slurm):
    """Start a SLURM without accounting, where sacct knows nothing."""
    return start_slurm()


def ask(slurm, *command):
    """Return what a program of SLURM prints."""
    answer = subprocess.run(command, env={**os.environ, **slurm}, capture_output=True, text=True, check=True)
    return answer.stdout


def jobs(slurm, state):
    """Return the jobs in a state, by the number of their pack."""
    lines = ask(slurm, "squeue", "-h", "-r", "-t", state, "-o", "%i").split()
    return {int(job.partition("_")[2] or 0): job for job in lines}


def processes(slurm, job):
    """Return the processes of a job that train: its first Python process, then those that it started."""
    number = ask(slurm, "squeue", "-h", "-j", job, "-o", "%A").strip()
    lines = ask(slurm, "scontrol", "listpids", number).splitlines()[1:]
    pids = sorted(int(line.split()[0]) for line in lines if line.split()[2].isdigit())
    return [pid for pid in pids if b"python" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0]]


@pytest.mark.slow
@pytest.mark.parametrize("options", [[], ["--accounting"]], ids=["no accounting", "accounting"])
def test_slurm_trains_a_sweep_as_packed_jobs_of_an_array(start_slurm, tmp_path, s3bench, options):
    slurm = start_slurm(*options)
    result = s3bench("sweep", *FOUR, *ON_SLURM, **slurm)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "4 runs: 4 finished" in result.stdout
    assert len(re.findall(r"^\[\d/4\] quadratic-\S+  finished  [\d.]+ s$", result.stdout, flags=re.M)) == 4
    assert states(tmp_path) == ["finished"] * 4
    assert set(jobs(slurm, "CD")) == {0, 1}
    assert not (tmp_path / "r" / cluster.PACKS).exists()
    assert "4 runs: 4 finished" in s3bench("sweep", *FOUR, *ON_SLURM, **slurm).stdout
    assert set(jobs(slurm, "all")) == {0, 1}  # nothing was submitted again


@pytest.mark.slow
def test_slurm_trains_a_single_run(slurm, tmp_path, s3bench):
    line = ["run", "task=quadratic", "horizon=200", "results_dir=r", "launcher=slurm"]
    result = s3bench(*line, **slurm)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "1 runs in r, 0 of them already over" in result.stdout
    assert re.search(r"^s3bench-\w{8}: 1 jobs, at most 1 runs in each$", result.stdout, flags=re.M)
    assert states(tmp_path) == ["finished"]
    assert "1 runs: 1 finished" in s3bench(*line, **slurm).stdout
    failed = s3bench(*line, "seed=1", "task.build._target_=tasks.Missing", **slurm)
    assert "Missing" in mistake(failed)


@pytest.mark.slow
def test_ctrl_c_cancels_the_job_of_a_single_run(slurm, tmp_path):
    line = [*WAITING[:2], "horizon=200", "results_dir=r", "launcher=slurm"]
    run = Sweep(tmp_path, *line, command="run", **slurm)
    run.under_way(1)
    run.process.send_signal(signal.SIGINT)
    assert run.ended() == 130, run.printed()
    assert "cancelling the jobs" in run.printed()
    assert not jobs(slurm, "R,PD")
    run.go()
    again = Sweep(tmp_path, *line, command="run", **slurm)
    assert again.ended() == 0, again.printed()
    assert states(tmp_path) == ["finished"]


@pytest.mark.slow
def test_a_cancelled_job_is_noticed_and_the_same_sweep_resumes(slurm, tmp_path):
    sweep = Sweep(tmp_path, *WAITING, *ON_SLURM, **slurm)
    sweep.under_way(2)
    began = time.monotonic()
    ask(slurm, "scancel", jobs(slurm, "R")[0])
    until(lambda: "job 0 is gone (CANCELLED); 2 of its 2 runs are missing" in sweep.printed())
    assert time.monotonic() - began < 60
    sweep.go()
    assert sweep.ended() == 1
    assert "4 runs: 2 finished, 2 missing" in sweep.printed()
    again = Sweep(tmp_path, *WAITING, *ON_SLURM, **slurm)
    assert again.ended() == 0, again.printed()
    assert "4 runs: 4 finished" in again.printed()


@pytest.mark.slow
@pytest.mark.parametrize("command", ["scancel --signal=USR2", "scontrol requeue"])
def test_a_preempted_job_is_queued_again_and_finishes(slurm, tmp_path, command):
    sweep = Sweep(tmp_path, *WAITING, *ON_SLURM, **slurm)
    sweep.under_way(2)
    job = jobs(slurm, "R")[1]
    ask(slurm, *command.split(), job)
    until(lambda: "Restarts=1" in ask(slurm, "scontrol", "show", "job", job))
    sweep.go()
    assert sweep.ended() == 0, sweep.printed()
    assert "4 runs: 4 finished" in sweep.printed()
    assert "gone" not in sweep.printed()


SLOW = """\
import time
from tasks.quadratic import Quadratic

class Slow(Quadratic):
    def loss(self, model, batch):
        time.sleep(0.02)
        return super().loss(model, batch)
"""


@pytest.mark.slow
def test_a_preempted_job_resumes_from_its_checkpoint_bit_for_bit(slurm, tmp_path):
    (tmp_path / "slow.py").write_text(SLOW)
    one = ["task=quadratic", "task.build._target_=slow.Slow", "seed=0", "horizon=1500", "checkpoint_every=3600"]
    sweep = Sweep(tmp_path, *one, "results_dir=r", "launcher=slurm", **slurm)
    until(lambda: any(record.steps_so_far(place) > 100 for place in tmp_path.glob("r/quadratic*")))
    (job,) = jobs(slurm, "R").values()
    ask(slurm, "scancel", "--signal=USR2", job)
    until(lambda: "Restarts=1" in ask(slurm, "scontrol", "show", "job", job))
    assert sweep.ended() == 0, sweep.printed()
    subprocess.run([str(CLI), "run", *one, "results_dir=whole"], cwd=tmp_path, check=True, stdout=subprocess.DEVNULL)
    (cut,), (whole,) = record.folders(tmp_path / "r"), record.folders(tmp_path / "whole")
    (resumed,) = record.load_record(cut)["summary"]["resumed"]
    assert resumed["step"] > 100  # written at the signal: the next one by time is an hour away
    assert resumed["exact"]
    assert same(whole, cut)


FLAKY = """\
from pathlib import Path
from tasks.quadratic import Quadratic

class Flaky(Quadratic):
    \"\"\"Fails at the first try of seed 1.\"\"\"
    def loss(self, model, batch):
        tried = Path("tried")
        if self.seed == 1 and not tried.exists():
            tried.touch()
            raise RuntimeError("not yet")
        return super().loss(model, batch)
"""


@pytest.mark.slow
def test_a_job_retries_a_failed_run_if_asked_to(slurm, tmp_path, s3bench):
    (tmp_path / "flaky.py").write_text(FLAKY)
    grid = ["task=quadratic", "task.build._target_=flaky.Flaky", "seed=0,1,2", "horizon=100", "results_dir=r"]
    result = s3bench("sweep", *grid, *ON_SLURM, "retries=1", **slurm)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "3 runs: 3 finished" in result.stdout


@pytest.mark.slow
def test_a_failure_that_is_retried_does_not_end_a_sweep(slurm, tmp_path, s3bench):
    (tmp_path / "flaky.py").write_text(FLAKY)
    grid = ["task=quadratic", "task.build._target_=flaky.Flaky", "seed=0,1,2", "horizon=100", "results_dir=r"]
    result = s3bench("sweep", *grid, *ON_SLURM, "retries=1", "fail_fast=true", **slurm)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "3 runs: 3 finished" in result.stdout


@pytest.mark.slow
def test_a_sweep_on_slurm_can_end_at_its_first_failure(slurm, tmp_path):
    (tmp_path / "flaky.py").write_text(FLAKY)
    (tmp_path / "patient.py").write_text(PATIENT)
    (tmp_path / "both.py").write_text(
        "from flaky import Flaky\nfrom patient import Patient\n\n"
        "class Both(Flaky, Patient):\n    pass\n"  # seed 1 fails, the others wait
    )
    grid = ["task=quadratic", "task.build._target_=both.Both", "seed=1,0,2", "horizon=100", "results_dir=r"]
    sweep = Sweep(tmp_path, *grid, "launcher=slurm", "launcher.runs_per_job=1", "fail_fast=true", **slurm)
    assert sweep.ended() == 1, sweep.printed()
    assert "cancelling the jobs" in sweep.printed()
    assert "3 runs: 1 failed, 2 missing" in sweep.printed()
    assert not jobs(slurm, "R,PD,CG")


@pytest.mark.slow
@pytest.mark.parametrize("which", [slice(0, 1), slice(None)], ids=["the job's first process", "all"])
def test_no_run_is_lost_if_processes_of_a_job_are_killed(slurm, tmp_path, which):
    sweep = Sweep(tmp_path, *WAITING, *ON_SLURM, **slurm)
    sweep.under_way(2)
    for pid in processes(slurm, jobs(slurm, "R")[0])[which]:
        os.kill(pid, signal.SIGKILL)
    until(lambda: "job 0 is gone (FAILED)" in sweep.printed())
    sweep.go()
    assert sweep.ended() == 1
    again = Sweep(tmp_path, *WAITING, *ON_SLURM, **slurm)
    assert again.ended() == 0, again.printed()
    assert states(tmp_path) == ["finished"] * 4


@pytest.mark.slow
def test_no_run_is_lost_if_a_node_dies_and_comes_back(start_slurm, tmp_path):
    slurm = start_slurm()
    place = Path(slurm["SLURM_CONF"]).parent
    sweep = Sweep(tmp_path, *WAITING, *ON_SLURM, **slurm)
    sweep.under_way(2)
    time.sleep(25)  # SLURM looks for a job that its node has lost only 20 s after its start (BatchStartTimeout)
    os.kill(int((place / "slurmd.pid").read_text()), signal.SIGKILL)
    for environ in Path("/proc").glob("[0-9]*/environ"):
        if _is_of_a_job(environ, place):
            os.kill(int(environ.parent.name), signal.SIGKILL)
    subprocess.run([ONE_NODE, "node", place], check=True)
    sweep.go()
    assert sweep.ended(400) == 0, sweep.printed()
    assert "4 runs: 4 finished" in sweep.printed()


def _is_of_a_job(environ, place):
    """Tell whether a process belongs to a job of the SLURM in a folder, or is the slurmstepd of one."""
    try:
        is_of_slurm = str(place).encode() in environ.read_bytes()
        is_step = b"slurmstepd" in (environ.parent / "cmdline").read_bytes()
        return is_of_slurm and (is_step or b"SLURM_JOB_ID=" in environ.read_bytes())
    except OSError:
        return False


@pytest.mark.slow
def test_a_failing_run_is_reported_from_slurm_and_the_others_finish(slurm, tmp_path, s3bench):
    (tmp_path / "moody.py").write_text(
        "from tasks.quadratic import Quadratic\n\n"
        "class Moody(Quadratic):\n"
        "    def loss(self, model, batch):\n"
        "        if self.seed == 1:\n            raise RuntimeError('not in the mood')\n"
        "        return super().loss(model, batch)\n"
    )
    result = s3bench("sweep", "task.build._target_=moody.Moody", *FOUR, *ON_SLURM, **slurm)
    assert result.returncode == 1
    assert "4 runs: 2 finished, 2 failed" in result.stdout
    assert "failed: RuntimeError: not in the mood" in result.stdout


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_sweep_cancels_its_jobs(slurm, tmp_path, number):
    sweep = Sweep(tmp_path, *WAITING, *ON_SLURM, **slurm)
    sweep.under_way(2)
    os.killpg(sweep.process.pid, number)
    assert sweep.ended() == 130
    assert sweep.printed().endswith("s3bench: stopped; run the same command again to resume\n")
    assert not jobs(slurm, "R,PD,CG")
    assert states(tmp_path) == ["missing"] * 4


@pytest.mark.slow
def test_a_refusal_by_slurm_is_reported_on_one_line(slurm, s3bench, tmp_path):
    said = mistake(s3bench("sweep", *FOUR, *ON_SLURM, "launcher.partition=nowhere", **slurm))
    assert "Invalid partition name specified" in said
    elsewhere = tmp_path / "slurm.conf"
    text = Path(slurm["SLURM_CONF"]).read_text()
    elsewhere.write_text(re.sub(r"SlurmctldPort=\d+", "SlurmctldPort=1", text))
    said = mistake(s3bench("sweep", *FOUR, *ON_SLURM, SLURM_CONF=str(elsewhere)))
    assert "SLURM does not answer" in said


@pytest.mark.slow
def test_the_reason_is_printed_why_a_job_cannot_start(slurm, tmp_path):
    sweep = Sweep(tmp_path, *FOUR, *ON_SLURM, "launcher.cpus_per_task=5000", **slurm)
    until(lambda: sweep.process.poll() is not None or "jobs wait: " in sweep.printed())
    os.killpg(sweep.process.pid, signal.SIGINT)
    assert sweep.ended() in (2, 130)  # some versions refuse the job at once


# On Ray


@pytest.fixture
def ray():
    pytest.importorskip("hydra_plugins.hydra_ray_launcher")
    pytest.importorskip("ray")


def packs_of_ray(folder):
    """Return the processes of Ray that train packs of a sweep: their current folder is the sweep's."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            if (place / "cmdline").read_bytes().startswith(b"ray::_run_job") and (place / "cwd").readlink() == folder:
                found.append(int(place.name))
        except OSError:
            continue
    return found


@pytest.mark.slow
@pytest.mark.usefixtures("ray")
def test_ray_on_this_machine_trains_a_sweep_and_ends_with_it(s3bench, tmp_path):
    result = s3bench("sweep", *FOUR, *ON_RAY)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "4 runs: 4 finished" in result.stdout
    assert states(tmp_path) == ["finished"] * 4
    assert not (tmp_path / "r" / cluster.PACKS).exists()
    assert not packs_of_ray(tmp_path)


@pytest.mark.slow
@pytest.mark.usefixtures("ray")
def test_no_run_is_lost_if_a_process_of_ray_is_killed(tmp_path):
    sweep = Sweep(tmp_path, *WAITING, *ON_RAY)
    sweep.under_way(2)
    killed = packs_of_ray(tmp_path)[0]
    os.kill(killed, signal.SIGKILL)
    until(lambda: len(set(packs_of_ray(tmp_path)) - {killed}) == 2)
    sweep.go()
    assert sweep.ended() == 0, sweep.printed()
    assert "4 runs: 4 finished" in sweep.printed()


@pytest.mark.slow
@pytest.mark.usefixtures("ray")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_sweep_that_is_stopped_ends_its_ray(tmp_path, number):
    sweep = Sweep(tmp_path, *WAITING, *ON_RAY)
    sweep.under_way(2)
    os.killpg(sweep.process.pid, number)
    code = sweep.ended()
    if number == signal.SIGINT:
        assert code == 130
        assert sweep.printed().endswith("s3bench: stopped; run the same command again to resume\n")
    until(lambda: not packs_of_ray(tmp_path))
    until(lambda: states(tmp_path) == ["missing"] * 4)  # workers that wait within a step are killed after a while


@pytest.fixture
def ray_cluster(ray):  # noqa: ARG001
    """Start a Ray, and yield its address."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    place = tempfile.mkdtemp(prefix="s3ray")  # short, for sockets
    command = [str(CLI.with_name("ray")), "start", "--head", "--block", f"--port={port}"]
    command += ["--num-cpus=2", "--include-dashboard=false", "--disable-usage-stats", f"--temp-dir={place}"]
    head = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    until(lambda: _answers(port))
    yield f"127.0.0.1:{port}"
    os.killpg(head.pid, signal.SIGTERM)
    try:
        head.wait(60)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _answers(port):
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.slow
def test_a_sweep_joins_a_running_ray_and_leaves_it_running(ray_cluster, s3bench, tmp_path):
    result = s3bench("sweep", *FOUR, *ON_RAY, f"launcher.address={ray_cluster}", RAY_AUTH_MODE="token")
    assert result.returncode == 0, result.stdout + result.stderr
    assert states(tmp_path) == ["finished"] * 4
    assert _answers(int(ray_cluster.rpartition(":")[2]))
