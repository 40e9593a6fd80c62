#!/usr/bin/env bash
# Rewrites train.lock and serve.lock: what the two workload images install. They are cut from requirements/all.lock
# (same versions, same hashes; a test compares), which itself also holds the tests' and the developers' tools.
# Run it after `make lock`, which brings the tool that this needs.
set -euo pipefail
cd "$(dirname "$0")/../.."

uv=.cache/lock/bin/uv
if [ ! -x "$uv" ]; then
    echo "no $uv: run \`make lock\` first" >&2
    exit 1
fi

cut_out() { # NAME HEADING ARGUMENTS…: writes deploy/images/NAME.lock
    local name=$1 heading=$2 target
    target=deploy/images/$name.lock
    shift 2
    "$uv" pip compile --quiet --python-version 3.11 --python-platform x86_64-manylinux_2_34 --only-binary :all: \
        --generate-hashes --no-emit-index-url --no-annotate --no-header --constraint requirements/all.lock \
        pyproject.toml "$@" >"$target.tmp"
    { printf '# %s\n# Made by deploy/images/lock.sh; do not edit.\n' "$heading"; cat "$target.tmp"; } >"$target"
    rm "$target.tmp"
    echo "$target: $(grep -c '==' "$target") packages"
}

cut_out train "What jobs need: data, training, tuning, tracking, evaluation, export. For the workloads image's target train." \
    requirements/pinned.in --extra train --extra s3 --extra data --extra tracking --extra tuning --override requirements/override.in
cut_out serve "What the inference server needs: no torch. For the workloads image's target serve." \
    --extra serve --extra s3
