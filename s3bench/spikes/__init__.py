"""The spikes of a loss curve. Pure numpy; works on any curve with one loss per step."""

from s3bench.spikes.detector import SpikeMonitor as SpikeMonitor
from s3bench.spikes.detector import baselines as baselines
from s3bench.spikes.detector import find_spikes as find_spikes
from s3bench.spikes.excursion import Spike as Spike
