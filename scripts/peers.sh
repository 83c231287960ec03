#!/usr/bin/env bash
# Brings the Python libraries that `make peers` holds ours against, into $OPDFLOW_DEPS/peers (or .deps/peers), as a virtual
# environment. What is there in these versions is not fetched again. 5 GB, most of it PyTorch; nothing else needs them.
#
#   scripts/peers.sh           installs them and prints the path of their python
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
deps=$(readlink -m "${OPDFLOW_DEPS:-$here/../.deps}")
peers=$deps/peers

packages=(
    torch==2.11.0
    diffusers==0.42.1
    transformers==5.24.0
    peft==0.21.2
    accelerate==1.15.0
    safetensors==0.8.0
    sentencepiece==0.2.3
    protobuf==7.36.2
    pillow==13.0.0
    numpy==2.4.6
    rapidocr-onnxruntime==1.4.4
    # What RapidOCR reads with. It asks for no versions of these, and what it reads follows from them.
    onnxruntime==1.32.0
    opencv-python==5.0.0.93
    pyclipper==1.4.0
    shapely==2.2.0
)

die() {
    printf 'peers: %s\n' "$1" >&2
    shift
    for line in "$@"; do printf '       %s\n' "$line" >&2; done
    exit 1
}

command -v python3 >/dev/null || die 'python3 is missing' 'Debian, Ubuntu: apt-get install python3 python3-venv'

# Of which versions the environment was made whole. A run that was cut off leaves none.
stamp=$peers/packages
if [ ! -f "$stamp" ] || [ "$(cat "$stamp")" != "${packages[*]}" ]; then
    rm -f "$stamp"
    python3 -m venv "$peers" || die 'python3 cannot make a virtual environment' 'Debian, Ubuntu: apt-get install python3-venv'
    "$peers/bin/python" -m pip install --quiet --retries 10 "${packages[@]}" >&2
    printf '%s' "${packages[*]}" >"$stamp"
fi
printf '%s\n' "$peers/bin/python"
