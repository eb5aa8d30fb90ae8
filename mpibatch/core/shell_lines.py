"""Lines of bash that make an environment: modules, a conda environment, a site's own lines, a container. Pure.

The same lines stand in batch scripts (`slurm:`) and before processors (`environment:`). Each element of what the
functions return is complete: it may stand in a script alone, and its exit code says whether it worked. All
that comes from a job file is quoted, but for setup lines, which are bash.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec

_PLAIN = re.compile(r"[A-Za-z0-9_@%+=:,./-]+", re.ASCII)

# Shells that are no login shells often lack the function; these are the places of Environment Modules and Lmod.
_FIND_MODULE = """\
if ! type module >/dev/null 2>&1; then
    for init in "${MODULESHOME:-}/init/bash" "${LMOD_PKG:-}/init/bash" \\
        /etc/profile.d/modules.sh /etc/profile.d/lmod.sh /etc/profile.d/z00_lmod.sh \\
        /usr/share/modules/init/bash /usr/share/Modules/init/bash /usr/share/lmod/lmod/init/bash; do
        if [ -r "$init" ]; then . "$init" || true; break; fi
    done
    type module >/dev/null 2>&1 || { echo "there is no module command on $(uname -n)" >&2; false; }
fi"""

_CONDA_BY_NAME = """\
if type -P conda >/dev/null || [ -n "${{CONDA_EXE:-}}" ]; then
    eval "$("${{CONDA_EXE:-conda}}" shell.bash hook)" && conda activate {name}
elif type -P micromamba >/dev/null || [ -n "${{MAMBA_EXE:-}}" ]; then
    eval "$("${{MAMBA_EXE:-micromamba}}" shell hook --shell bash)" && micromamba activate {name}
else
    echo "there is neither conda nor micromamba on $(uname -n): name the environment's folder, or load its module" >&2
    false
fi"""

# What `conda activate` does, as far as it needs no conda: there may be none on a compute node.
_CONDA_BY_FOLDER = """\
if [ -d {folder}/bin ]; then
    export CONDA_PREFIX={folder}
    export PATH="$CONDA_PREFIX/bin:$PATH"
    for script in "$CONDA_PREFIX"/etc/conda/activate.d/*.sh; do
        if [ -r "$script" ]; then . "$script" || true; fi
    done
    true
else
    echo {folder}" is no conda environment: it has no folder bin on $(uname -n)" >&2
    false
fi"""


class Container(msgspec.Struct, frozen=True, kw_only=True):
    """An image, and how a command is executed in it. Both commands take the same options and replace themselves by
    what they execute, or wait for it, with the open files that they were given."""

    image: str
    command: str = "apptainer"
    """`apptainer` or `singularity`, or its path."""
    options: list[str] = []
    """Of `exec`, like `--nv`."""


def quoted(text: str) -> str:
    """One word for bash."""
    return text if _PLAIN.fullmatch(text) else "'" + text.replace("'", "'\"'\"'") + "'"


def module_lines(modules: Sequence[str]) -> list[str]:
    """Find the `module` command and load each by its own line; nothing where there are none."""
    return [_FIND_MODULE, *(f"module load {quoted(module)}" for module in modules)] if modules else []


def conda_lines(conda: str | None) -> list[str]:
    """Activate an environment: with a slash it is its folder, which needs no conda; else its name."""
    if conda is None:
        return []
    if "/" in conda:
        return [_CONDA_BY_FOLDER.format(folder=quoted(conda.rstrip("/") or "/"))]
    return [_CONDA_BY_NAME.format(name=quoted(conda))]


def environment_lines(*, modules: Sequence[str], conda: str | None, setup: Sequence[str]) -> list[str]:
    """All lines, in this order: a module may bring conda, and a site's own lines know what both have made."""
    return [*module_lines(modules), *conda_lines(conda), *setup]


def container_words(container: Container, binds: Sequence[str] = ()) -> list[str]:
    """Quoted words that execute the command after them in the container, with these folders at their own places."""
    mounts = [word for path in outermost(binds) for word in _mount(path)]
    return [
        quoted(word) for word in (container.command, "exec", *container.options, *mounts, container.image)
    ]


def outermost(paths: Sequence[str]) -> list[str]:
    """Without what lies below another one, in order; absolute paths."""
    kept: list[str] = []
    for path in sorted(set(paths), key=lambda one: one.split("/")):
        if not any(path == above or path.startswith(above.rstrip("/") + "/") for above in kept):
            kept.append(path)
    return kept


def _mount(path: str) -> list[str]:
    if not any(c in path for c in ',:"'):
        return ["--bind", path]
    # --bind knows no way to write these characters; --mount takes fields as CSV has them.
    in_quotes = path.replace('"', '""')
    return ["--mount", f'type=bind,"source={in_quotes}","destination={in_quotes}"']
