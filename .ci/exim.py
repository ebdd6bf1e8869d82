"""An Exim of its own in one directory, on loopback: takes all mail under TLS, and passes it on under TLS."""

import os, shutil, socket, subprocess, time

import unpacked


def program():
    return unpacked.program("exim4")


class Exim:
    FIELDS = [b"Received:"]

    def __init__(self, directory, chain, key, next_port):
        with socket.create_server(("127.0.0.1", 0)) as s:
            self.port = s.getsockname()[1]
        self.directory, self.config = directory, directory / "exim.conf"
        for part in ("spool", "log"):
            (directory / part).mkdir(parents=True, mode=0o755)
            shutil.chown(directory / part, "nobody", "nogroup")
        # It reads them as nobody.
        for file in (chain, key):
            os.chmod(file, 0o644)
        self.config.write_text(f"""exim_path = {program()}
exim_user = nobody
exim_group = nogroup
keep_environment =
primary_hostname = middle.example
spool_directory = {directory}/spool
log_file_path = {directory}/log/%slog
local_interfaces = 127.0.0.1
daemon_smtp_ports = {self.port}
tls_advertise_hosts = *
tls_certificate = {chain}
tls_privatekey = {key}
tls_on_connect_ports =
smtputf8_advertise_hosts = *
message_size_limit = 64M
acl_smtp_rcpt = take
acl_smtp_data = take
dsn_advertise_hosts = *
chunking_advertise_hosts = *
never_users =
qualify_domain = middle.example

begin acl
take:
  accept

begin routers
next:
  driver = manualroute
  route_list = * 127.0.0.1
  self = send
  transport = next

begin transports
next:
  driver = smtp
  port = {next_port}
  hosts_require_tls = *
  tls_verify_hosts =
  tls_try_verify_hosts =
  hosts_try_dane =
  message_linelength_limit = 1000000

begin retry
* * F,1h,1s
""")
        self.process = subprocess.Popen([program(), "-C", self.config, "-bdf", "-q1s"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        for _ in range(200):
            try:
                return socket.create_connection(("127.0.0.1", self.port), 1).close()
            except OSError:
                time.sleep(0.05)
        self.process.kill()
        raise SystemExit(f"Exim does not listen:\n{self.process.stderr.read().decode()}{self.log()}")

    def log(self):
        return "".join(file.read_text(errors="replace") for file in sorted((self.directory / "log").glob("*")))

    def stop(self):
        self.process.terminate()
        self.process.wait()
