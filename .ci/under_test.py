"""`mta` in a directory of its own, what is sent to it, and how a check is counted."""

import os, pathlib, re, shutil, signal, socket, subprocess, sys, time

ROOT = pathlib.Path(__file__).resolve().parent.parent
MTA = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release/mta"
CI = bool(os.environ.get("CI"))
results = {"passed": 0, "failed": 0, "skipped": 0}


def check(name, ok, detail=""):
    results["passed" if ok else "failed"] += 1
    print(f"{'ok' if ok else 'FAILED'}: {name}{' ' + str(detail) if not ok else ''}", flush=True)


def have(program, is_there=None):
    if shutil.which(program) if is_there is None else is_there:
        return True
    results["failed" if CI else "skipped"] += 1
    print(f"skipped: {program}")
    return False


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as s:
        return s.getsockname()[1]


def until_listening(port, problem):
    for _ in range(200):
        try:
            return socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.05)
    raise SystemExit(problem())


class Mta:
    """`mta` in a directory of its own, with every mailbox of a domain."""

    def __init__(self, directory, more="", first="", mailboxes="any", domain="example.org"):
        directory.mkdir()
        self.directory, self.domain = directory, domain
        self.port = free_port()
        self.config = directory / "mta.toml"
        self.config.write_text(f'''hostname = "mx.example.org"
domains = ["{domain}"]
data = "{directory}/data"
postmaster = "alice@{domain}"
mailboxes = "{mailboxes}"
{first}

[[listener]]
address = "127.0.0.1:{self.port}"

{more}
''')
        self.process = subprocess.Popen([MTA, "run", "--config", self.config], stdout=subprocess.DEVNULL,
                                        stderr=open(directory / "log", "w"))
        # It listens at one place after the other.
        for port in {self.port, *(int(port) for port in re.findall(r'^address = "127\.0\.0\.1:(\d+)"', more, re.M))}:
            until_listening(port, lambda: "mta does not listen:\n" + (directory / "log").read_text())

    def queue(self, *arguments):
        run = subprocess.run([MTA, "queue", *arguments, "--config", self.config], capture_output=True, text=True, timeout=120)
        return run.stdout + run.stderr

    def until_idle(self):
        """Until each recipient of what was accepted has an outcome."""
        for _ in range(1200):
            if self.queue("list") == "the queue is empty\n":
                return
            time.sleep(0.05)
        raise SystemExit("the queue does not become empty:\n" + self.queue("list"))

    def maildir(self, user):
        return self.directory / "data" / self.domain / user / "new"

    def take(self, user, idle=False, notifications=False):
        """The messages of a user, without the fields that the server put in front; they are removed."""
        if not idle:
            self.until_idle()
        messages = []
        for file in sorted(self.maildir(user).glob("*")):
            fields, content = split(file.read_bytes(), [b"Return-Path:", b"Delivered-To:"] + ([] if notifications else [b"Received:"]))
            messages.append((fields, content))
            file.unlink()
        return messages

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)


def split(octets, names):
    """Fields of ours, of these names; then the content as it was sent."""
    rest = octets
    for name in names:
        assert rest.startswith(name), rest[:200]
        while True:
            line, _, rest = rest.partition(b"\r\n")
            if not rest.startswith((b" ", b"\t")):
                break
    return octets[:len(octets) - len(rest)], rest


def crlf(text):
    return text.replace(b"\n", b"\r\n")


CONTENTS = {
    "plain": crlf(b"Subject: plain\n\nhello\n"),
    "8-bit": crlf(b"Subject: 8-bit\n\n") + bytes(range(128, 256)) + b"\r\n",
    "dots": crlf(b"Subject: dots\n\n.\n..\n.a\n...\n. \na.\n"),
    "empty body": crlf(b"Subject: empty body\n\n"),
    "10 MB": crlf(b"Subject: 10 MB\n\n" + b"0123456789" * 7 + b"\n") + (b"0123456789" * 7 + b"\r\n") * 140_000,
    "long line": crlf(b"Subject: long line\n\n") + b"x" * 100_000 + b"\r\n",
}


def certificate(directory):
    """A certificate for mx.example.org that signs itself, and its key."""
    chain, key = directory / "mx.pem", directory / "mx.key"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj",
                    "/CN=mx.example.org", "-addext", "subjectAltName=DNS:mx.example.org", "-keyout", key, "-out", chain],
                   check=True, capture_output=True)
    return chain, key


def end():
    """Says how it went, and ends with a status that says the same."""
    print("{passed} passed, {failed} failed, {skipped} skipped".format(**results))
    sys.exit(1 if results["failed"] else 0)
