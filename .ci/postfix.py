"""A Postfix of its own in one directory, on loopback: takes all mail under TLS, and passes it on under TLS."""

import os, pathlib, shutil, socket, subprocess, time


def is_there():
    # It runs as nobody else than root starts it.
    return shutil.which("postfix") is not None and os.geteuid() == 0


class Postfix:
    FIELDS = [b"Received:"]

    def __init__(self, directory, chain, key, next_port):
        with socket.create_server(("127.0.0.1", 0)) as s:
            self.port = s.getsockname()[1]
        self.directory, self.config = directory, directory / "etc"
        for part in ("etc", "queue", "lib"):
            (directory / part).mkdir(parents=True, mode=0o755)
        shutil.chown(directory / "lib", "postfix")
        (self.config / "main.cf").write_text(f"""compatibility_level = 3.6
queue_directory = {directory}/queue
data_directory = {directory}/lib
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
maillog_file = {directory}/log
maillog_file_prefixes = {directory}
myhostname = middle.example
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
mydestination =
local_recipient_maps =
alias_maps =
smtpd_relay_restrictions = permit_mynetworks, reject
smtpd_peername_lookup = no
smtputf8_enable = yes
smtp_line_length_limit = 0
local_header_rewrite_clients =
message_size_limit = 67108864
smtpd_tls_security_level = may
smtpd_tls_received_header = yes
smtpd_tls_cert_file = {chain}
smtpd_tls_key_file = {key}
smtp_tls_security_level = encrypt
default_transport = smtp:[127.0.0.1]:{next_port}
smtp_host_lookup = native
smtp_dns_support_level = disabled
""")
        (self.config / "master.cf").write_text(f"""127.0.0.1:{self.port} inet n - n - 20 smtpd
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
smtp unix - - n - 20 smtp
relay unix - - n - 20 smtp
error unix - - n - - error
retry unix - - n - - error
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
tlsmgr unix - - n 1000? 1 tlsmgr
postlog unix-dgram n - n - 1 postlogd
""")
        run = subprocess.run(["postfix", "-c", self.config, "start"], capture_output=True, text=True)
        for _ in range(200):
            try:
                return socket.create_connection(("127.0.0.1", self.port), 1).close()
            except OSError:
                time.sleep(0.05)
        raise SystemExit(f"Postfix does not listen:\n{run.stdout}{run.stderr}{self.log()}")

    def log(self):
        log = pathlib.Path(self.directory / "log")
        return log.read_text(errors="replace") if log.exists() else ""

    def stop(self):
        subprocess.run(["postfix", "-c", self.config, "stop"], capture_output=True)
