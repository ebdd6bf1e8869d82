"""Programs whose packages are unpacked and not installed, and a root directory of its own for one of them.

Their packages conflict with that of Postfix or bring services, so `.ci/run` only unpacks them. Some have paths and users compiled in: below a root
of its own each finds there what it expects, and the machine has nothing of it.
"""

import os, pathlib, re, shutil, subprocess

UNPACKED = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", pathlib.Path(__file__).resolve().parent.parent / "target")) / "unpacked"


def program(name):
    """Its path, installed or unpacked; they change their user or their root, so that only root can start them."""
    found = shutil.which(name) or next((str(path) for path in UNPACKED.glob(f"usr/*bin/{name}")), None)
    return found if os.geteuid() == 0 else None


def root(directory, name, users):
    """Makes the directory the root of this program: with its libraries, and with these users and no others."""
    for part in ("etc", "tmp", "usr/sbin"):
        (directory / part).mkdir(parents=True, mode=0o755)
    directory.chmod(0o755)
    path = program(name)
    shutil.copy(path, directory / "usr/sbin" / name)
    needed = subprocess.run(["ldd", path], capture_output=True, text=True, check=True).stdout
    for library in re.findall(r"(/\S+) \(0x", needed):
        place = directory / library.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(library, place)
    people = [("root", 0), *((user, 65_000 + number) for number, user in enumerate(users))]
    (directory / "etc/passwd").write_text("".join(f"{user}:x:{number}:{number}::/:/bin/false\n" for user, number in people))
    (directory / "etc/group").write_text("".join(f"{user}:x:{number}:\n" for user, number in people))
    # Nobody answers there, so that no question leaves the machine.
    (directory / "etc/resolv.conf").write_text("nameserver 127.0.0.1\noptions attempts:1 timeout:1\n")
