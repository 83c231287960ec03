#!/usr/bin/env bash
# One archive with all that opdflow needs at run time: both programs, stripped; libtorch, ONNX Runtime and PP-OCR; completions, manual
# pages, and the licences of what is linked. It is unpacked anywhere, or over a prefix such as /usr/local, and moved at will.
#
#   scripts/dist.sh FOLDER     the folder of the built programs, such as target/release; leaves dist/opdflow-VERSION-linux-x86_64.tar.gz
set -euo pipefail
export LC_ALL=C

here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
built=$(cd "${1:?name the folder of the built programs}" && pwd)
deps=$(readlink -m "${OPDFLOW_DEPS:-$here/.deps}")
libtorch=$(readlink -m "${LIBTORCH:-$deps/libtorch}")
version=$("$built/opdflow" --version | cut -d' ' -f2)
name=opdflow-$version-linux-x86_64
out=$here/dist
root=$out/$name.part/$name

rm -rf "$out/$name.part"
mkdir -p "$root/bin" "$root/lib/opdflow/libtorch/lib" "$root/share/man/man1" "$root/share/doc/opdflow"
for program in opdflow opdflow-stage; do
    cp "$built/$program" "$root/bin/"
    strip "$root/bin/$program"
done
cp -P "$libtorch"/lib/*.so* "$root/lib/opdflow/libtorch/lib/"
cp -r "$deps/onnxruntime" "$deps/ppocr" "$root/lib/opdflow/"

find "$root/lib" -name licences -type d -prune -exec rm -r {} +

# From here on the programs are those of the archive: what does not run from there is not packed.
opdflow=$root/bin/opdflow
commands=$("$opdflow" --help | awk '/^Commands:/ { listed = 1; next } /^$/ { listed = 0 } listed && /^  [a-z]/ { print $1 }')
"$opdflow" man >"$root/share/man/man1/opdflow.1"
for command in $commands; do
    "$opdflow" man "$command" >"$root/share/man/man1/opdflow-$command.1"
done
for shell in bash:bash-completion/completions/opdflow zsh:zsh/site-functions/_opdflow fish:fish/vendor_completions.d/opdflow.fish; do
    file=$root/share/${shell#*:}
    mkdir -p "$(dirname "$file")"
    "$opdflow" completions "${shell%%:*}" >"$file"
done
cp "$here/README.md" "$root/share/doc/opdflow/"
cp -r "$here/recipes" "$root/share/doc/opdflow/"
python3 "$here/scripts/licences.py" "$here" "$deps" >"$root/share/doc/opdflow/LICENCES.txt"

tar -C "$out/$name.part" --sort=name --owner=0 --group=0 --numeric-owner -czf "$out/$name.tar.gz.part" "$name"
mv "$out/$name.tar.gz.part" "$out/$name.tar.gz"
rm -rf "$out/$name.part"
du -h "$out/$name.tar.gz"
