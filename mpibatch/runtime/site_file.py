"""The site's profile, `mpibatch.site.yaml`: where it is looked for, and read.

The nearest file counts, alone: the job's folder, then the folders above it, then the user's configuration. So one
file says it all, and nobody has to add up several.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping

from mpibatch.core.settings import printable
from mpibatch.core.site_profile import SITE_NAME, SiteProfile, no_mapping
from mpibatch.errors import ConfigError
from mpibatch.runtime.job_yaml import read_job_text


def find_profile(job_dir: str, environment: Mapping[str, str] = os.environ) -> SiteProfile | None:
    """The profile for a job file in the folder `job_dir` (absolute); None where there is none.

    ConfigError if it cannot be read.
    """
    for folder in _folders(job_dir, environment):
        file = os.path.join(folder, SITE_NAME)
        if os.path.isfile(file):
            return _read(file)
    return None


def _folders(job_dir: str, environment: Mapping[str, str]) -> Iterator[str]:
    folder = job_dir
    while True:
        yield folder
        above = os.path.dirname(folder)
        if above == folder:
            break
        folder = above
    # The home directory is asked for by the variable too, as the base directory specification says.
    configuration = environment.get("XDG_CONFIG_HOME") or os.path.join(os.path.expanduser("~"), ".config")
    yield os.path.join(configuration, "mpibatch")


def _read(file: str) -> SiteProfile:
    try:
        with open(file, encoding="utf-8-sig") as opened:
            value = read_job_text(opened.read(), printable(file))
    except OSError as error:
        raise ConfigError(
            f"the site profile {printable(file)} cannot be read: {error.strerror}. Make it readable, or move it."
        ) from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"the site profile {printable(file)} is not UTF-8: {error.reason}") from None
    if value is None:
        return SiteProfile(file=file, mapping={})
    if not isinstance(value, Mapping):
        raise no_mapping(file, value)
    return SiteProfile(file=file, mapping=value)
