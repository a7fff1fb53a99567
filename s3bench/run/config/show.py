"""Shows the config that settings lead to and where its parts come from: what `--cfg` and `--info` print."""

from collections.abc import Sequence
from typing import Any

from hydra import compose
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from s3bench.errors import unknown
from s3bench.run.config.compose import (
    hydra_on_configs,
    identified,
    settings_of_run,
    typed_config,
    unresolved_config,
)
from s3bench.run.config.grid import first_point
from s3bench.run.config.overrides import Setting
from s3bench.run.config.schema import as_dict

HELP_TEXTS = ("help", "hydra_help")  # of Hydra's command line, which its own --cfg leaves out too

NOTHING = object()  # null is a value too


def config_yaml(settings: Sequence[Setting], part: str, package: str | None = None, *, resolve: bool = False) -> str:
    """Return the config of a run as YAML, as Hydra's own `--cfg` does.

    Args:
        settings: those of one run.
        part: "job" is the run's config with its run_id and code digests, "hydra" is Hydra's own, "all" is both.
        package: the key to print alone, such as "task.build".
        resolve: whether interpolations are resolved. The run's config is then the one that its record will hold
            (config.yaml, which leaves out the private keys of a launcher).

    Raises:
        UserError: a mistake in the settings, or a package that the config does not have.
    """
    unresolved = unresolved_config(settings)
    config = identified(typed_config(unresolved))
    whole: dict[str, Any] = {"hydra": _hydra_config(settings, resolve)} if part != "job" else {}
    if part != "hydra":
        filled_in: dict[str, Any] = {"code": config.code, "run_id": config.run_id}
        whole |= as_dict(config) if resolve else {**_plain(unresolved), **filled_in}
    shown = OmegaConf.create(whole)
    if package is None:
        return OmegaConf.to_yaml(shown)
    if (node := OmegaConf.select(shown, package, default=NOTHING)) is NOTHING:
        raise unknown("package", package, map(str, shown))
    return f"# @package {package}\n{OmegaConf.to_yaml(node)}" if OmegaConf.is_config(node) else f"{node}\n"


def print_info(settings: Sequence[Setting], topic: str) -> None:
    """Print what Hydra's own `--info` prints of a topic: config, defaults, defaults-tree, plugins, searchpath or all.

    Raises UserError for a mistake in the settings.
    """
    identified(typed_config(unresolved_config(settings)))
    with hydra_on_configs() as search:
        hydra = GlobalHydra.instance().hydra
        assert hydra is not None
        hydra.show_info(topic, "run", [*search, *_for_hydra(settings)])


def asked_settings(overrides: list[str], zipped: Sequence[Sequence[str]] | None) -> list[Setting]:
    """Return the settings of a run, or of the first run of a sweep (then `zipped` is not None). Raises UserError."""
    return settings_of_run(overrides) if zipped is None else first_point(overrides, zipped)


def _hydra_config(settings: Sequence[Setting], resolve: bool) -> dict[str, Any]:
    with hydra_on_configs() as search:
        composed = compose("run", [*search, *_for_hydra(settings)], return_hydra_config=True)
    HydraConfig.instance().set_config(composed)  # some of its interpolations look there
    OmegaConf.set_readonly(composed.hydra, False)
    if resolve:
        OmegaConf.resolve(composed.hydra)
    return {key: value for key, value in _plain(composed.hydra).items() if key not in HELP_TEXTS}


def _for_hydra(settings: Sequence[Setting]) -> list[str]:
    """Return overrides that Hydra accepts: values are forced (++), because only the typed config has all keys."""
    return [one.text if one.is_structural else f"++{one.text.lstrip('+')}" for one in settings]


def _plain(config: Any) -> dict[str, Any]:
    """Return a config as plain data, its interpolations as they are written."""
    plain: Any = OmegaConf.to_container(config, resolve=False)
    return {str(key): value for key, value in plain.items()}
