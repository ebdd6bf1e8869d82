"""Dovecot in the foreground, in one directory: a mail store behind LMTP, on loopback and a Unix socket, and its users behind another."""

import os, pathlib, pwd, shutil, socket, subprocess, time

PLACES = ("/usr/sbin/dovecot", "/usr/local/sbin/dovecot")


def program():
    """Where Dovecot is, if its LMTP server is there too."""
    found = shutil.which("dovecot") or next((place for place in PLACES if os.access(place, os.X_OK)), None)
    has_lmtp = any(pathlib.Path(place).exists() for place in ("/usr/lib/dovecot/lmtp", "/usr/libexec/dovecot/lmtp"))
    return found if has_lmtp else None


class Dovecot:
    """Knows these users and no other, all with the password `x`, and keeps their mail in Maildirs with CRLF."""

    def __init__(self, directory, users, port):
        directory.mkdir(exist_ok=True)
        self.directory, self.socket, self.port, self.users = directory, directory / "lmtp", port, directory / "auth"
        # It needs no privilege, so it gets none.
        name = "dovecot" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
        who = pwd.getpwnam(name)
        (directory / "users").write_text("".join(f"{user}:{{PLAIN}}x\n" for user in users))
        config = directory / "dovecot.conf"
        config.write_text(f"""base_dir = {directory}/run
state_dir = {directory}/state
log_path = {directory}/log
protocols = lmtp
listen = 127.0.0.1
ssl = no
default_internal_user = {name}
default_internal_group = {name}
default_login_user = {name}
first_valid_uid = {who.pw_uid}
first_valid_gid = {who.pw_gid}
mail_location = maildir:{directory}/mail/%n
mail_save_crlf = yes
passdb {{
  driver = passwd-file
  args = {directory}/users
}}
userdb {{
  driver = static
  args = uid={who.pw_uid} gid={who.pw_gid} home={directory}/home/%n
}}
service anvil {{
  chroot =
}}
service stats {{
  chroot =
}}
service auth {{
  chroot =
  unix_listener {directory}/auth {{
    mode = 0666
  }}
}}
service lmtp {{
  chroot =
  unix_listener {self.socket} {{
    mode = 0666
  }}
  inet_listener lmtp {{
    address = 127.0.0.1
    port = {port}
  }}
}}
""")
        for path in (directory, directory / "users", config):
            os.chown(path, who.pw_uid, who.pw_gid)
        lowered = {"user": who.pw_uid, "group": who.pw_gid, "extra_groups": []} if os.geteuid() == 0 else {}
        self.process = subprocess.Popen([program(), "-F", "-c", config], stdout=subprocess.DEVNULL,
                                        stderr=open(directory / "stderr", "w"), **lowered)
        for _ in range(200):
            try:
                with socket.create_connection(("127.0.0.1", port), 1) as connection:
                    if connection.recv(4) == b"220 ":
                        return
            except OSError:
                pass
            time.sleep(0.05)
        self.stop()
        raise SystemExit("dovecot does not answer:\n" + self.log())

    def log(self):
        return "".join(file.read_text() for file in (self.directory / "stderr", self.directory / "log") if file.exists())

    def maildir(self, user):
        return self.directory / "mail" / user

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
