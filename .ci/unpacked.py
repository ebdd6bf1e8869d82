"""Programs whose packages are unpacked and not installed, since they conflict with that of Postfix; `.ci/run` does it."""

import os, pathlib, shutil

UNPACKED = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", pathlib.Path(__file__).resolve().parent.parent / "target")) / "unpacked"


def program(name):
    """Its path, installed or unpacked; they change their user, so that only root can start them."""
    found = shutil.which(name) or next((str(path) for path in UNPACKED.glob(f"usr/*bin/{name}")), None)
    return found if os.geteuid() == 0 else None
