#!/usr/bin/env bash
# Brings what cargo cannot: libtorch for CPU, ONNX Runtime, and the PP-OCR models, into .deps/ (or $OPDFLOW_DEPS).
#
#   scripts/setup.sh           fetch what is missing or broken; without network if nothing is
#   scripts/setup.sh --verify  read every byte again, even of files that look untouched
#
# Everything comes out of wheels that are pinned by SHA-256, and what is kept of them is pinned too (scripts/deps/*.sha256).
# Needs bash, the GNU core utilities, a C++ compiler; to fetch, python3 with pip. Peak space: 1.1 GB, kept: 550 MB.
set -euo pipefail
export LC_ALL=C

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
pins=$here/deps
deps=$(readlink -m "${OPDFLOW_DEPS:-$here/../.deps}")
wheels=$deps/.wheels
torch=2.11.0
onnxruntime=1.32.0
# Digest over the digests of libtorch's headers.
headers=09a4e5d8b3b7dcee78e02bfff84e3d6e7388121575b457fbb478cbf2d836b948

die() {
    printf 'setup: %s\n' "$1" >&2
    shift
    for line in "$@"; do printf '       %s\n' "$line" >&2; done
    exit 1
}

say() { printf '%-12s %-7s %s\n' "$1" "$2" "$3"; }

# --- the machine -----------------------------------------------------------------------------------------------------

need_tools() {
    command -v cargo >/dev/null || die 'cargo is missing' 'install Rust with rustup (https://www.rust-lang.org/tools/install), then run this again'
    local cxx=${CXX:-c++}
    command -v "${cxx%% *}" >/dev/null || die "the C++ compiler \`$cxx\` is missing" 'Debian, Ubuntu: apt-get install g++'
    command -v "${CC:-cc}" >/dev/null || die "the C compiler \`${CC:-cc}\` is missing" 'Debian, Ubuntu: apt-get install gcc'
}

need_to_fetch() {
    local system
    system=$(uname -sm)
    [ "$system" = 'Linux x86_64' ] || die "the packages are for Linux x86_64, this is $system" 'set LIBTORCH to a libtorch '$torch' of this system'
    command -v python3 >/dev/null || die 'python3 is missing' 'Debian, Ubuntu: apt-get install python3 python3-pip'
    python3 -m pip --version >/dev/null 2>&1 || die 'python3 has no pip' 'Debian, Ubuntu: apt-get install python3-pip'
}

# --- wheels ----------------------------------------------------------------------------------------------------------

sha_of() { sha256sum -- "$1" | cut -d' ' -f1; }

# wheel REQUIREMENT ABI PLATFORM SHA256: leaves the wheel as $wheels/SHA256.whl. A finished wheel stays until its part is
# in place, so that a run that was cut off goes on with the next one.
wheel() {
    local requirement=$1 abi=$2 platform=$3 sha=$4 kept=$wheels/$4.whl
    if [ -f "$kept" ] && [ "$(sha_of "$kept")" = "$sha" ]; then return; fi
    need_to_fetch
    local into=$wheels/$sha.part options=(--retries 10 --timeout 60) asked
    rm -rf "$kept" "$into"
    mkdir -p "$into"
    asked=$into/requirement.txt
    printf '%s --hash=sha256:%s\n' "$requirement" "$sha" >"$asked"
    [ -t 2 ] || options+=(--quiet)
    # A connection that breaks in the middle of a wheel is taken up again by pip from 25.1 on.
    if python3 -m pip download --help 2>/dev/null | grep -q -e --resume-retries; then options+=(--resume-retries 20); fi
    PIP_REQUIRE_VIRTUALENV=false python3 -m pip --disable-pip-version-check download "${options[@]}" --no-cache-dir --no-deps \
        --only-binary=:all: --require-hashes --python-version 312 --implementation cp --abi "$abi" --platform "$platform" \
        --dest "$into" --requirement "$asked" >&2 ||
        die "could not fetch $requirement; what pip says stands above" 'nothing that was there is lost: run this again to go on'
    mv "$into"/*.whl "$kept"
    rm -rf "$into"
}

# out_of SHA256 FOLDER FROM=TO...: unpacks members of that wheel.
out_of() {
    local sha=$1 folder=$2
    shift 2
    python3 "$pins/unpack.py" "$wheels/$sha.whl" "$folder" "$@" || die "cannot unpack into $folder" 'is the disk full?'
}

# --- parts -----------------------------------------------------------------------------------------------------------
# A part NAME has NAME_wheels, which fetches, NAME_unpack FOLDER, NAME_whole FOLDER, and pins in deps/NAME.sha256.

torch_sha=0f68f4ac6d95d12e896c3b7a912b5871619542ec54d3649cf48cc1edd4dd2756
cudart_sha=7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548
cupti_sha=4eb01c08e859bf924d222250d2e8f8b8ff6d3db4721288cf35d14252a4d933c8
libtorch_wheels() {
    wheel "torch==$torch" cp312 manylinux_2_28_x86_64 $torch_sha
    # libtorch_cpu.so comes from a build for CUDA and does not load without these two, not even on a CPU.
    wheel nvidia-cuda-runtime==13.0.96 none manylinux2014_x86_64 $cudart_sha
    wheel nvidia-cuda-cupti==13.0.85 none manylinux_2_25_x86_64 $cupti_sha
}
libtorch_unpack() {
    local lib=torch/lib nvidia=nvidia/cu13/lib
    out_of $torch_sha "$1" torch/include/=include/ \
        $lib/libtorch_cpu.so=lib/libtorch_cpu.so $lib/libc10.so=lib/libc10.so $lib/libgomp.so.1=lib/libgomp.so.1
    out_of $cudart_sha "$1" $nvidia/libcudart.so.13=lib/libcudart.so.13
    out_of $cupti_sha "$1" $nvidia/libcupti.so.13=lib/libcupti.so.13
    # For those who pass the libraries on (make dist).
    out_of $torch_sha "$1" torch-$torch.dist-info/licenses/=licences/
    out_of $cudart_sha "$1" nvidia_cuda_runtime-13.0.96.dist-info/licenses/License.txt=licences/cuda-runtime.txt
    out_of $cupti_sha "$1" nvidia_cuda_cupti-13.0.85.dist-info/licenses/License.txt=licences/cuda-cupti.txt
    ln -s libgomp.so.1 "$1/lib/libgomp.so"
    libtorch_shell "$1/lib"
    echo "$torch" >"$1/build-version"
}
# The package's own libtorch.so pulls in libtorch_cuda.so, which is large and of no use here. Ours is an empty shell over
# the rest. A program that has a whole PyTorch in front of its library path gets that one's libtorch.so, and CUDA with it.
libtorch_shell() {
    local new=$1/libtorch.so.new
    # shellcheck disable=SC2016 # $ORIGIN is for the loader.
    echo | "${CC:-cc}" -shared -nostdlib -x c - -Wl,--no-as-needed -Wl,-soname,libtorch.so -Wl,-rpath,'$ORIGIN' \
        -L "$1" -ltorch_cpu -lc10 -o "$new" || die 'cannot link the shell libtorch.so'
    if cmp -s "$new" "$1/libtorch.so"; then rm "$new"; else mv "$new" "$1/libtorch.so"; fi
}
libtorch_whole() {
    [ "$(cat "$1/build-version" 2>/dev/null)" = "$torch" ] && [ -e "$1/lib/libgomp.so" ] && [ -d "$1/include" ] &&
        [ "$(cd "$1" && find include -type f -print0 | sort -z | xargs -0 sha256sum | sha256sum | cut -d' ' -f1)" = "$headers" ] &&
        libtorch_shell "$1/lib"
}

onnxruntime_sha=99e1074c4b2197accd5073052a465361be17b89c093b8ffb6e6bd8f986c52df8
onnxruntime_wheels() { wheel "onnxruntime==$onnxruntime" cp312 manylinux_2_28_x86_64 $onnxruntime_sha; }
onnxruntime_unpack() {
    out_of $onnxruntime_sha "$1" "onnxruntime/capi/libonnxruntime.so.$onnxruntime=libonnxruntime.so" \
        onnxruntime/ThirdPartyNotices.txt=licences/ThirdPartyNotices.txt
}
onnxruntime_whole() { true; }

rapidocr_sha=971d7d5f223a7a808662229df1ef69893809d8457d834e6373d3854bc1782cbf
ppocr_wheels() { wheel rapidocr-onnxruntime==1.4.4 none any $rapidocr_sha; }
ppocr_unpack() {
    local models=rapidocr_onnxruntime/models
    out_of $rapidocr_sha "$1" $models/ch_PP-OCRv4_det_infer.onnx=det.onnx $models/ch_PP-OCRv4_rec_infer.onnx=rec.onnx
}
ppocr_whole() { true; }

# --- checking and placing --------------------------------------------------------------------------------------------

# What `ls` would show of a part: paths, sizes, times. A part whose bytes were checked once is trusted while this stays.
look() { find "$deps/$1" -type f -printf '%P %s %T@\n' 2>/dev/null | sort | sha256sum | cut -d' ' -f1; }

untouched() { [ -z "$verify" ] && [ "$(cat "$deps/.checked/$1" 2>/dev/null)" = "$(look "$1")" ]; }

# Reads the whole part.
whole() {
    [ -d "$deps/$1" ] && (cd "$deps" && sha256sum --check --status --strict "$pins/$1.sha256" 2>/dev/null) && "$1_whole" "$deps/$1" || return 1
    mkdir -p "$deps/.checked"
    look "$1" >"$deps/.checked/$1"
}

# part NAME VERSION MEGABYTES
part() {
    local name=$1 new=$deps/.new-$1 old=$deps/.old-$1
    if untouched "$name"; then
        say "$name" "$2" ready
        return
    elif whole "$name"; then
        say "$name" "$2" 'ready, checked'
        return
    fi
    if [ -e "$deps/$name" ]; then say "$name" "$2" 'broken, fetching it again'; else say "$name" "$2" "fetching $3 MB"; fi
    "${name}_wheels"
    rm -rf "$new" "$old"
    mkdir -p "$new"
    "${name}_unpack" "$new"
    if [ -e "$deps/$name" ]; then mv "$deps/$name" "$old"; fi
    mv "$new" "$deps/$name"
    whole "$name" || die "$name is not what it should be although its package is" "remove $deps/$name and run this again; if it stays so, please report it"
    rm -rf "$old"
}

# A libtorch of the user's own choice is not ours to fetch.
own_libtorch() {
    if [ -n "${LIBTORCH_USE_PYTORCH:-}" ]; then
        say libtorch '' "that of python3's torch, as LIBTORCH_USE_PYTORCH asks"
    elif [ -n "${LIBTORCH:-}" ] && [ "$(readlink -m "$LIBTORCH")" != "$deps/libtorch" ]; then
        [ -e "${LIBTORCH_LIB:-$LIBTORCH}/lib/libtorch.so" ] || die "LIBTORCH is $LIBTORCH, but there is no lib/libtorch.so in it" "unset LIBTORCH to have libtorch $torch fetched"
        say libtorch '' "yours, in $LIBTORCH"
    else
        return 1
    fi
}

case ${1:-} in
'') verify= ;;
--verify) verify=yes ;;
*) die "unknown option $1" 'usage: scripts/setup.sh [--verify]' ;;
esac

need_tools
mkdir -p "$deps" 2>/dev/null && [ -w "$deps" ] || die "cannot write to $deps" 'set OPDFLOW_DEPS to a folder of yours'
if command -v flock >/dev/null; then
    exec 9>"$deps/.lock"
    flock --nonblock 9 || { echo 'setup: another one is running, waiting for it' >&2 && flock 9; }
fi
own_libtorch || part libtorch $torch 544
part onnxruntime $onnxruntime 28
part ppocr v4 15
rm -rf "$wheels" "$deps"/.new-* "$deps"/.old-*
