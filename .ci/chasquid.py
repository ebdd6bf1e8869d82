"""A chasquid in a root of its own, on loopback: takes mail for its domain under TLS, and passes that of its aliases on under TLS."""

import shutil, subprocess

import unpacked
from under_test import free_port, until_listening


def program():
    return unpacked.program("chasquid")


class Chasquid:
    """Mail for whom it knows at `example.org` goes to the same user at `127.0.0.1`, which reads as a domain whose host needs no DNS."""

    FIELDS = [b"Received-SPF:", b"Received:"]

    def __init__(self, directory, chain, key, next_port, users):
        self.directory, self.port = directory, free_port()
        unpacked.root(directory, "chasquid", ["chasquid"])
        etc, data = directory / "etc/chasquid", directory / "data"
        for part in (etc / "certs/middle.example", etc / "domains/example.org", data):
            part.mkdir(parents=True, mode=0o755)
        for file, place in ((chain, "fullchain.pem"), (key, "privkey.pem")):
            shutil.copy(file, etc / "certs/middle.example" / place)
            (etc / "certs/middle.example" / place).chmod(0o644)
        data.chmod(0o777)
        (etc / "domains/example.org/aliases").write_text("".join(f"{user}: {user}@127.0.0.1\n" for user in users))
        (etc / "chasquid.conf").write_text("""hostname: "middle.example"
smtp_address: "127.0.0.1:%s"
submission_address: ""
submission_over_tls_address: ""
data_dir: "/data"
max_data_size_mb: 12
mail_log_path: "<stderr>"
""" % self.port)
        self.process = subprocess.Popen(["chroot", "--userspec=chasquid", directory, "/usr/sbin/chasquid",
                                         f"-testing__outgoing_smtp_port={next_port}"], stdin=subprocess.DEVNULL,
                                        stdout=open(directory / "log", "w"), stderr=subprocess.STDOUT)
        until_listening(self.port, lambda: "chasquid does not listen:\n" + self.log())

    def log(self):
        return (self.directory / "log").read_text(errors="replace")

    def stop(self):
        self.process.terminate()
        self.process.wait()
