#!/usr/bin/env bash
# Rewrites requirements/*.lock from pyproject.toml: exact versions and hashes, for CPython 3.11 on Linux x86-64.
# `make lock` keeps pins that still satisfy pyproject.toml; `make lock UPGRADE=1` takes the newest of everything.
# No registry's address is written: uv asks its own default index (or UV_DEFAULT_INDEX), pip later asks its own.
set -euo pipefail
cd "$(dirname "$0")/.."

uv_version=0.13.9
tools=.cache/lock
if [ "$("$tools/bin/uv" --version 2>/dev/null | cut -d' ' -f2)" != "$uv_version" ]; then
    "${PYTHON:-python3.11}" -m venv "$tools"
    "$tools/bin/python" -m pip install --quiet "uv==$uv_version"
fi

compile() {
    "$tools/bin/uv" pip compile --quiet --python-version 3.11 --python-platform x86_64-manylinux_2_34 \
        --only-binary :all: --generate-hashes --no-emit-index-url --no-annotate --no-header \
        ${UPGRADE:+--upgrade} "$@"
}

lock() { # NAME PACKAGES-FROM…: compiles to NAME.lock under a heading that says what it is for
    local name=$1 heading=$2
    shift 2
    compile --output-file "requirements/$name.lock" "$@"
    { printf '# %s\n# Made by `make lock`; do not edit.\n' "$heading"; grep -v '^#' "requirements/$name.lock"; } >"requirements/$name.tmp"
    mv "requirements/$name.tmp" "requirements/$name.lock"
    echo "requirements/$name.lock: $(grep -c '==' "requirements/$name.lock") packages"
}

lock all "Everything: every extra, tests and tools. For make setup." \
    pyproject.toml requirements/pinned.in --extra all --extra demo --extra dev --override requirements/override.in
lock controller "The control plane in a cluster: the extras operator and alerts. For the controller's image." \
    pyproject.toml --extra operator --extra alerts --constraint requirements/all.lock
bash deploy/images/lock.sh
