"""A running `mta`, a next hop for it, and clients: what the scripts in this folder share.

Standard library only. Everything listens on loopback and ends with the `with` that began it.
"""
import contextlib, os, pathlib, secrets, signal, smtplib, socket, socketserver, subprocess, sys, threading, time

ROOT = pathlib.Path(__file__).resolve().parent.parent
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
MTA = pathlib.Path(os.environ.get("MTA", TARGET / "release/mta"))
CI = bool(os.environ.get("CI"))
PATIENCE = 30
# Above 256 KiB content has a file of its own.
LARGE = 300_000


class Results:
    """Counts checks and prints each."""

    def __init__(self):
        self.failed = 0

    def check(self, name, ok, detail=""):
        self.failed += not ok
        print(f"{'ok' if ok else 'FAILED'}: {name}{f' {detail}' if detail != '' else ''}", flush=True)
        return ok

    def end(self):
        sys.exit(1 if self.failed else 0)


def skip(what, why=""):
    """Ends the script: something of this machine is missing. In CI that is a failure."""
    print(f"skipped: {what}{f' ({why})' if why else ''}")
    sys.exit(1 if CI else 0)


def wait_until(condition, seconds=PATIENCE, period=0.02):
    """Whether it became true in time; its last value."""
    end = time.monotonic() + seconds
    while not (value := condition()) and time.monotonic() < end:
        time.sleep(period)
    return value


class Sink:
    """The next hop. Remembers which tokens arrived, and how often; a token is the local-part of a recipient."""

    def __init__(self):
        self.arrived = {}
        self.defers = False
        self.attempts = 0
        # When the first message arrived.
        self.first = None
        self.lock = threading.Lock()
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.server = None

    def __enter__(self):
        self.open()
        return self

    def __exit__(self, *_):
        self.close()

    def open(self):
        sink = self

        class Session(socketserver.StreamRequestHandler):
            disable_nagle_algorithm = True
            timeout = PATIENCE

            def handle(self):
                with contextlib.suppress(OSError):
                    sink.serve(self.rfile, self.wfile)

        class Server(socketserver.ThreadingTCPServer):
            allow_reuse_address = True
            daemon_threads = True
            request_queue_size = 128

        self.server = Server(("127.0.0.1", self.port), Session)
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self):
        """Nobody is there any more; connections that are open stay."""
        if self.server:
            self.server.shutdown()
            self.server.server_close()
            self.server = None

    def serve(self, lines, out):
        out.write(b"220 sink.example ESMTP\r\n")
        recipients = []
        while line := lines.readline(4096):
            verb = line.split(b":")[0].strip().upper()
            answer = b"250 2.0.0 Ok\r\n"
            if verb.startswith(b"EHLO"):
                answer = b"250-sink.example\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SIZE 104857600\r\n"
            elif verb == b"RCPT TO":
                with self.lock:
                    self.attempts += 1
                if self.defers:
                    answer = b"451 4.3.0 Not now\r\n"
                else:
                    recipients.append(line[line.index(b"<") + 1:line.index(b"@")].decode())
            elif verb == b"DATA":
                if not recipients:
                    answer = b"503 5.5.1 No recipients\r\n"
                else:
                    out.write(b"354 Go on\r\n")
                    octets = self.read_content(lines)
                    with self.lock:
                        self.first = self.first or time.monotonic()
                        for recipient in recipients:
                            self.arrived.setdefault(recipient, []).append(octets)
                    recipients = []
            elif verb in (b"RSET", b"MAIL FROM"):
                recipients = []
            elif verb == b"QUIT":
                out.write(b"221 2.0.0 Bye\r\n")
                return
            out.write(answer)

    @staticmethod
    def read_content(lines):
        octets = 0
        while (line := lines.readline()) != b".\r\n":
            if not line:
                raise ConnectionError("it ended in the content")
            octets += len(line)
        return octets

    def copies(self, token):
        with self.lock:
            return len(self.arrived.get(token, []))


class Mta:
    """`mta` with its queue in a directory; relays everything to a port of loopback."""

    def __init__(self, directory, next_hop, wrapper=(), queue=None):
        self.directory = pathlib.Path(directory)
        self.queue = pathlib.Path(queue or self.directory / "queue")
        self.wrapper = [str(word) for word in wrapper]
        self.program = str(MTA)
        self.config = self.directory / "mta.toml"
        self.process = None
        self.pid = None
        self.config.write_text(f'''hostname = "mta.example"
domains = ["local.example"]
mailboxes = "any"
data = "{self.directory}/data"

[[listener]]
address = "127.0.0.1:0"

[queue]
directory = "{self.queue}"
first_retry_seconds = 1
longest_wait_seconds = 1

[relay]
smart_host = "127.0.0.1:{next_hop}"
clients = ["127.0.0.0/8"]

[log]
level = "warn"
''')

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()

    def start(self):
        log = open(self.directory / "log", "a")
        command = [*self.wrapper, self.program, "run", "--config", str(self.config)]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log,
                                        cwd=self.directory, text=True)
        log.close()
        for line in self.process.stdout:
            if line.startswith("listening on"):
                self.port = int(line.rsplit(":", 1)[1])
                break
        else:
            raise SystemExit("mta does not start:\n" + self.log())
        # Its own output is not waited for any more; a full pipe would hold it up.
        threading.Thread(target=self.process.stdout.read, daemon=True).start()
        # Under a wrapper the server is its child.
        children = pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        self.pid = int(children.read_text().split()[0]) if self.wrapper else self.process.pid
        return self

    def trace(self, *arguments):
        """Attaches strace to what runs, all threads of it; it ends with the server."""
        tracer = subprocess.Popen(["strace", "-f", "-qq", *map(str, arguments), "-p", str(self.pid)],
                                  stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

        def is_traced():
            states = [(task / "status").read_text() for task in pathlib.Path(f"/proc/{self.pid}/task").iterdir()]
            return all("TracerPid:\t0\n" not in state for state in states)

        if not wait_until(is_traced):
            raise SystemExit("strace does not attach")
        return tracer

    def log(self):
        return (self.directory / "log").read_text(errors="replace")[-4000:]

    def kill(self):
        """As a crash would end it."""
        if self.process and self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            self.process.wait(PATIENCE)

    def stop(self):
        """Asks it to end; its exit status."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGTERM)
        return self.process.wait(2 * PATIENCE)

    def queue_command(self, *words):
        run = subprocess.run([self.program, "queue", *words, "--config", self.config], capture_output=True, text=True,
                             timeout=PATIENCE, check=False)
        return run.returncode, run.stdout + run.stderr

    def is_empty(self):
        return "the queue is empty" in self.queue_command("list")[1]

    def client(self):
        return smtplib.SMTP("127.0.0.1", self.port, "client.example", timeout=PATIENCE)


def content(token, octets):
    """A message that names its token, of about that size."""
    head = f"Message-ID: <{token}@client.example>\r\nSubject: {token}\r\n\r\n".encode()
    line = b"x" * 70 + b"\r\n"
    return head + line * max(1, (octets - len(head)) // len(line))


class Sender:
    """Sends messages one after the other, over one connection for as long as they are taken."""

    def __init__(self, mta):
        self.mta = mta
        self.client = None

    def send(self, token, octets, size=True):
        """The reply, as (code, text, where); its code is 0 where there was none."""
        try:
            if self.client is None:
                self.client = self.mta.client()
                self.client.ehlo()
            answer = transact(self.client, token, octets, size)
        except smtplib.SMTPResponseException as error:
            answer = error.smtp_code, error.smtp_error.decode(), "greeting"
        except (smtplib.SMTPException, OSError) as error:
            answer = 0, str(error), "network"
        if answer[0] != 250:
            self.quit()
        return answer

    def quit(self):
        if self.client is not None:
            with contextlib.suppress(smtplib.SMTPException, OSError):
                self.client.quit()
            self.client = None


def transact(client, token, octets, size):
    message = content(token, octets)
    code, text = client.docmd(f"MAIL FROM:<sender@client.example>{f' SIZE={len(message)}' if size else ''}")
    if code != 250:
        return code, text.decode(), "MAIL"
    code, text = client.docmd(f"RCPT TO:<{token}@sink.example>")
    if code != 250:
        return code, text.decode(), "RCPT"
    client.putcmd("DATA")
    code, text = client.getreply()
    if code != 354:
        return code, text.decode(), "DATA"
    client.send(message + b".\r\n")
    code, text = client.getreply()
    return code, text.decode(), "content"


def load(mta, numbers, senders, large):
    """Sends these messages over several connections at once, one in `large` of them large. Queue id to (token, octets),
    and what else was said, as (code, text, where)."""
    sent, refused, lock = {}, [], threading.Lock()
    numbers = iter(numbers)

    def work():
        sender, silent = Sender(mta), 0
        # Where nobody answers any more, it is no use to wait for each message.
        while silent < 3:
            with lock:
                number = next(numbers, None)
            if number is None:
                break
            token = f"d{number}-{secrets.token_hex(4)}"
            size = LARGE if number % large == large - 1 else 200 + number % 97 * 150
            answer = sender.send(token, size)
            silent = silent + 1 if answer[0] == 0 else 0
            with lock:
                if answer[0] == 250:
                    sent[answer[1].split()[-1]] = (token, len(content(token, size)))
                else:
                    refused.append(answer)
        sender.quit()

    threads = [threading.Thread(target=work) for _ in range(senders)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sent, refused
