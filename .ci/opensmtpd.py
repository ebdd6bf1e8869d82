"""An OpenSMTPD in a root of its own, on loopback: takes all mail, under TLS where it can, and passes it on under TLS."""

import shutil, smtplib, ssl, subprocess

import unpacked
from under_test import free_port, until_listening


def program():
    return unpacked.program("smtpd")


class OpenSmtpd:
    FIELDS = [b"Received:"]

    def __init__(self, directory, chain, key, next_port):
        self.directory, self.port = directory, free_port()
        unpacked.root(directory, "smtpd", ["opensmtpd", "opensmtpq"])
        for part in ("var/run", "var/spool", "var/lib/opensmtpd/empty"):
            (directory / part).mkdir(parents=True, mode=0o755)
        for file, place in ((chain, "etc/chain"), (key, "etc/key")):
            shutil.copy(file, directory / place)
            (directory / place).chmod(0o600)
        (directory / "etc/mailname").write_text("middle.example\n")
        (directory / "etc/smtpd.conf").write_text(f"""pki middle cert "/etc/chain"
pki middle key "/etc/key"
smtp max-message-size 12M
listen on 127.0.0.1 port {self.port} tls pki middle
action "next" relay host smtp+tls://127.0.0.1:{next_port} tls no-verify
match from any for any action "next"
""")
        self.process = subprocess.Popen(["chroot", directory, "/usr/sbin/smtpd", "-d"], stdin=subprocess.DEVNULL,
                                        stdout=open(directory / "log", "w"), stderr=subprocess.STDOUT)
        until_listening(self.port, lambda: "OpenSMTPD does not listen:\n" + self.log())

    def can_tls(self):
        """Whether it keeps its word: Debian's 6.8 is built with OpenSSL 3, offers STARTTLS, and ends the connection after it."""
        with smtplib.SMTP("127.0.0.1", self.port, "client.example", timeout=60) as client:
            try:
                return client.starttls(context=ssl._create_unverified_context())[0] == 220
            except ssl.SSLError:
                return False

    def log(self):
        return (self.directory / "log").read_text(errors="replace")

    def stop(self):
        self.process.terminate()
        self.process.wait()
