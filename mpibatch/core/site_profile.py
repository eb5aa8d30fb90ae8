"""A site's profile gives defaults for the job file, and the job file wins key by key. Pure: nothing is read here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from mpibatch.core.settings import Problems, printable, shown
from mpibatch.core.slurm_keys import read_slurm
from mpibatch.errors import ConfigError

SITE_NAME = "mpibatch.site.yaml"
SECTIONS = ("slurm", "environment")
"""What a profile may hold: what is the site's, and not the job's."""
_ONE_OF = ("gpus_per_node", "gpus_per_task")
"""Two ways to say one thing: where the job says it, the site's way is left out."""


class SiteProfile(msgspec.Struct, frozen=True, kw_only=True):
    """The file, and the mapping that it holds."""

    file: str
    """Absolute path."""
    mapping: Mapping[Any, Any]


def check_profile(profile: SiteProfile) -> None:
    """Raises `ConfigError`, which names the profile's file and key, where the job could not take a value."""
    problems = Problems(printable(profile.file))
    problems.unknown_keys("", profile.mapping, SECTIONS, _hint)
    if profile.mapping.get("slurm") is not None:
        read_slurm(problems, profile.mapping["slurm"])
    if profile.mapping.get("environment") is not None:
        problems.mapping("environment", profile.mapping["environment"], "{modules: [gcc]}")
    problems.stop()


def with_profile(job: Mapping[Any, Any], profile: SiteProfile) -> tuple[dict[Any, Any], list[str]]:
    """The job's mapping with the site's defaults below it, and the dotted keys that are the site's.

    A key of the job that is empty takes the site's default away. Raises `ConfigError`.
    """
    check_profile(profile)
    merged, taken = dict(job), []
    for section in SECTIONS:
        defaults, own = profile.mapping.get(section), job.get(section)
        if defaults is None or (section in job and own is None):
            continue
        if own is not None and not isinstance(own, Mapping):
            continue  # For the job's own check to complain of.
        own = {} if own is None else own
        left_out = {other for name in _ONE_OF if name in own for other in _ONE_OF}
        added = {key: value for key, value in defaults.items() if key not in own and key not in left_out}
        merged[section] = {**added, **own}
        taken += [f"{section}.{key}" for key in added]
    return merged, taken


def no_mapping(file: str, value: Any) -> ConfigError:
    return ConfigError(
        f"{printable(file)}: holds {shown(value)}: a site profile is a mapping, like slurm: {{partition: long}}"
    )


def _hint(key: str, value: Any) -> str | None:
    return f"; a site profile holds defaults for {' and '.join(SECTIONS)} only"
