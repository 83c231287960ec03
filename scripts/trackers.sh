#!/usr/bin/env bash
# Brings what the tests of other trackers' files ask: TensorBoard, and MLflow's client (mlflow-skinny: the real one, without its server).
# Prints the Python that has them, into .deps/trackers (or $OPDFLOW_DEPS/trackers). 290 MB on disk.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
deps=$(readlink -m "${OPDFLOW_DEPS:-$here/../.deps}")
trackers=$deps/trackers
pins=$here/deps/trackers.txt

die() {
    printf 'trackers: %s\n' "$1" >&2
    shift
    for line in "$@"; do printf '          %s\n' "$line" >&2; done
    exit 1
}

command -v python3 >/dev/null || die 'python3 is missing' 'Debian, Ubuntu: apt-get install python3 python3-venv'

# Of which versions the environment was made whole. A run that was cut off leaves none.
stamp=$trackers/packages
if [ ! -f "$stamp" ] || ! cmp -s "$pins" "$stamp"; then
    rm -f "$stamp"
    python3 -m venv "$trackers" || die 'python3 cannot make a virtual environment' 'Debian, Ubuntu: apt-get install python3-venv'
    "$trackers/bin/python" -m pip install --quiet --disable-pip-version-check --retries 10 --requirement "$pins" >&2
    cp "$pins" "$stamp"
fi
printf '%s\n' "$trackers/bin/python"
