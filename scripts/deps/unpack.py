"""Takes files out of a wheel: unpack.py WHEEL FOLDER FROM=TO...

FROM is a member of the wheel and TO its path below FOLDER. A FROM that ends in `/` stands for all members below it.
Every FROM must be there.
"""

import os
import shutil
import sys
import zipfile


def put(wheel, member, path):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with wheel.open(member) as source, open(path, "wb") as target:
        shutil.copyfileobj(source, target, 1 << 22)


def main(wheel_path, folder, wanted):
    with zipfile.ZipFile(wheel_path) as wheel:
        members = [m for m in wheel.namelist() if not m.endswith("/")]
        for pair in wanted:
            source, target = pair.split("=", 1)
            if source.endswith("/"):
                found = [(m, target + m[len(source):]) for m in members if m.startswith(source)]
            else:
                found = [(m, target) for m in members if m == source]
            if not found:
                sys.exit("%s has no %s" % (os.path.basename(wheel_path), source))
            for member, path in found:
                put(wheel, member, os.path.join(folder, path))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
