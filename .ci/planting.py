"""Faults in a copy of the tree, one at a time, and what becomes of tests there: what `faults` and `row_faults` share.

Standard library only. The tree itself is only read. Builds lie in a folder of their own under CARGO_TARGET_DIR, or else under
the target directory of the tree, so that a second run is short. Some replacements leave code behind that warns; warnings are
not shown.
"""
import contextlib, os, pathlib, shutil, subprocess, sys, tempfile

TREE = pathlib.Path(__file__).resolve().parent.parent


class DoesNotApply(Exception):
    """A text to replace is not once in its file."""


def environment(target):
    """What cargo is told. The folder for its output is nobody else's: to cargo a copy of the tree is the tree itself, and what
    it built of the one would count as built of the other."""
    variables = dict(os.environ)
    variables["CARGO_TARGET_DIR"] = str(pathlib.Path(os.environ.get("CARGO_TARGET_DIR", TREE / "target")) / target)
    variables["RUST_BACKTRACE"] = "0"
    return variables


@contextlib.contextmanager
def copy_of_the_tree():
    with tempfile.TemporaryDirectory(prefix="faults-") as directory:
        copy = pathlib.Path(directory) / "tree"
        # With new times of change, so that nothing that an earlier run built with a fault counts as up to date.
        ignored = shutil.ignore_patterns("target", ".git")
        shutil.copytree(TREE, copy, ignore=ignored, copy_function=shutil.copyfile)
        yield copy


@contextlib.contextmanager
def planted(copy, replacements):
    """The copy with a fault in it: triples of file or folder, text (once in the file), replacement."""
    replacements = [(holder(copy, file, text), text, replacement) for file, text, replacement in replacements]
    originals = {file: file.read_text() for file, _, _ in replacements}
    changed = dict(originals)
    for file, text, replacement in replacements:
        if changed[file].count(text) != 1:
            raise DoesNotApply(f"{file.relative_to(copy)} holds it {changed[file].count(text)} times")
        changed[file] = changed[file].replace(text, replacement)
    try:
        write(changed)
        yield
    finally:
        write(originals)


def holder(copy, place, text):
    """The file at that place, or in that folder, which holds the text."""
    files = sorted((copy / place).glob("*.rs")) if (copy / place).is_dir() else [copy / place]
    return ([file for file in files if text in file.read_text()] or files)[0]


def write(texts):
    for file, text in texts.items():
        file.write_text(text)


def run(copy, variables, target, names=(), longest_seconds=600):
    """What became of tests of smtp-core: passes, fails, does not end, DOES NOT BUILD. `target` is `--lib` or `--test NAME`."""
    command = ["cargo", "test", "--quiet", "--package", "smtp-core", *target.split()]
    quiet = {"cwd": copy, "env": variables, "stdout": subprocess.DEVNULL}
    build = subprocess.run([*command, "--no-run"], stderr=subprocess.PIPE, text=True, check=False, **quiet)
    if build.returncode != 0:
        print(build.stderr, file=sys.stderr)
        return "DOES NOT BUILD"
    process = subprocess.Popen([*command, "--", *names], stderr=subprocess.DEVNULL, start_new_session=True, **quiet)
    try:
        return "passes" if process.wait(longest_seconds) == 0 else "fails"
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)
        process.wait()
        return "does not end"
