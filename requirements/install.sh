#!/usr/bin/env bash
# Makes the virtual environment $1 (default .venv) with exactly what the lock file $2 (default requirements/all.lock)
# says, and puts this work tree into it as an editable package. Called by `make setup`; may be run again at any time.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=${1:-.venv}
lock=${2:-requirements/all.lock}

log=.cache/setup.log

fail() {
    printf '\nset-up stopped: %s\n' "$*" >&2
    exit 1
}

pip() { # pip of the new environment; all that it says goes to the log
    PYTHONUNBUFFERED=1 "$venv/bin/python" -m pip "$@" --no-input --disable-pip-version-check 2>&1 | tee -a "$log"
}

fail_with_log() {
    tail -n 20 "$log" >&2
    fail "pip could not install $1; its last words are above, all of them in $log"
}

suits() { # whether a command is a Python that runs, is new enough and can make virtual environments
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

choose_python() {
    local candidate
    if [ -n "${PYTHON:-}" ]; then
        suits "$PYTHON" || fail "PYTHON=$PYTHON is not a Python 3.11 or newer; name one that is: make setup PYTHON=/path/to/python3.11"
        echo "$PYTHON"
        return
    fi
    for candidate in python3.11 python3 python3.12 python3.13; do
        if suits "$candidate"; then
            echo "$candidate"
            return
        fi
    done
    fail "no Python 3.11 or newer found; install one (Debian 12: apt-get install python3 python3-venv) or name it: make setup PYTHON=…"
}

progress() { # reads what pip prints and turns it into one line a package, or one line in all on a terminal
    local count=0 line name
    while IFS= read -r line; do
        case $line in
        Collecting\ * | Processing\ * | Requirement\ already\ satisfied:\ *)
            count=$((count + 1))
            case $line in Requirement*) continue ;; esac
            name=${line#* }
            name=${name%% *}
            name=${name##*/}
            name=${name%%-cp3*}
            name=${name%%-py[23]*}
            if [ -t 1 ]; then
                printf '\r\033[K  [%3d/%d] %s' "$count" "$total" "$name"
            else
                printf '  [%3d/%d] %s\n' "$count" "$total" "$name"
            fi
            ;;
        Installing\ collected*)
            [ ! -t 1 ] || printf '\r\033[K'
            echo "  unpacking; with PyTorch that takes a minute or two …"
            ;;
        esac
    done
}

forget_others() { # removes what an earlier lock file asked for and this one does not
    local others
    others=$("$venv/bin/python" - "$lock" <<'PYTHON'
import re, sys
from importlib import metadata

def plain(name):
    return re.sub(r"[-_.]+", "-", name).lower()

wanted = {plain(name) for name in re.findall(r"(?m)^([\w.-]+)==", open(sys.argv[1]).read())} | {"pip", "trunkline"}
print(*sorted({plain(dist.metadata["Name"]) for dist in metadata.distributions()} - wanted))
PYTHON
    )
    if [ -n "$others" ]; then
        echo "  removing $others"
        # shellcheck disable=SC2086  # names of packages, one word each
        pip uninstall --yes $others >/dev/null || fail_with_log "without $others"
    fi
}

python=$(choose_python)
"$python" -c 'import ensurepip, venv' 2>/dev/null ||
    fail "$python cannot make virtual environments; on Debian: apt-get install python3-venv"
version=$("$python" -c 'import platform; print(platform.python_version())')
total=$(grep -c '==' "$lock")
started=$SECONDS
mkdir -p .cache
: >"$log"

# What was made by the same Python and not cut off is brought up to date; anything else is made anew.
unfinished=$venv/.unfinished
if [ -e "$unfinished" ] || [ "$("$venv/bin/python" -c 'import platform; print(platform.python_version())' 2>/dev/null)" != "$version" ]; then
    echo "Python $version → $venv, $total pinned packages (with PyTorch about 7 GB; 3 to 5 minutes)"
    case $version in
    3.11.*) ;;
    *) echo "note: the pins are tested with Python 3.11, this is $version" ;;
    esac
    "$python" -m venv --clear "$venv"
else
    echo "Python $version → $venv is there; comparing it with $total pinned packages"
fi
: >"$unfinished"
# --no-deps: the lock is complete, and leaves out on purpose what requirements/override.in names.
# --no-compile: pip does it on one core; see below.
pip install --require-hashes --only-binary :all: --no-deps --no-compile --progress-bar off -r "$lock" | progress ||
    fail_with_log "$lock"
forget_others
pip install --no-deps --no-build-isolation --editable . >/dev/null || fail_with_log "this work tree"
# Every job is a process of its own: without compiled modules each would spend ten seconds on compiling PyTorch's, for
# ever where PYTHONDONTWRITEBYTECODE is set. Some packages ship files for other Pythons; those may fail.
echo "  compiling …"
"$venv/bin/python" -m compileall -q -j 0 -x '/tests?/' "$venv/lib" >/dev/null 2>&1 || true
rm -f "$unfinished"
echo "ready after $((SECONDS - started)) s"
