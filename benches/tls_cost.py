#!/usr/bin/env python3
"""What TLS costs `mta`: memory of an idle connection beside a program that holds TLS and nothing else, and processor time of a
full handshake beside `openssl s_server`, in one run on loopback.

  cargo build --release --bin mta && cargo build --release -p benches --example tls_floor
  python3 benches/tls_cost.py [--connections 5000] [--handshakes 2000]

Needs openssl and as many descriptors as connections. Ends by itself.
"""
import argparse, os, pathlib, resource, socket, ssl, subprocess, sys, tempfile, time

TICKS = os.sysconf("SC_CLK_TCK")


def rss_kib(pid):
    for line in open(f"/proc/{pid}/status"):
        if line.startswith("VmRSS"):
            return int(line.split()[1])


def processor_seconds(pid):
    fields = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_for(port):
    for _ in range(200):
        try:
            return socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.05)
    sys.exit(f"nobody listens on {port}")


def dial(context, port, greeting=True):
    s = socket.create_connection(("127.0.0.1", port), 20)
    s = context.wrap_socket(s, server_hostname="localhost")
    if greeting:
        s.recv(200)
    return s


def idle(context, pid, port, count, say):
    """KiB of a connection that has been greeted."""
    warm = [dial(context, port) for _ in range(50)]
    for s in warm:
        s.close()
    time.sleep(0.5)
    before = rss_kib(pid)
    held = []
    for _ in range(count):
        s = dial(context, port)
        if say:
            s.sendall(b"EHLO client.example\r\n")
            s.recv(1000)
        held.append(s)
    time.sleep(1)
    grown = rss_kib(pid) - before
    for s in held:
        s.close()
    return grown / count


def handshakes(context, pid, port, count, greeting):
    """Full handshakes that a second of processor time makes."""
    before = processor_seconds(pid)
    for _ in range(count):
        dial(context, port, greeting).close()
    return count / max(processor_seconds(pid) - before, 1 / TICKS)


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--connections", type=int, default=5000)
    options.add_argument("--handshakes", type=int, default=2000)
    options.add_argument("--programs", default=str(pathlib.Path(os.environ.get("CARGO_TARGET_DIR", "target")) / "release"))
    options = options.parse_args()
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    programs = pathlib.Path(options.programs).resolve()
    with tempfile.TemporaryDirectory() as place:
        place = pathlib.Path(place)
        key, chain, port = place / "key.pem", place / "chain.pem", free_port()
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1", "-keyout", key,
                        "-out", chain, "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"], check=True, capture_output=True)
        (place / "mta.toml").write_text(f"""hostname = "localhost"
domains = ["localhost"]
users = ["alice@localhost"]
[limits]
connections = {options.connections + 1000}
connections_exempt = ["127.0.0.0/8"]
[[certificate]]
chain = "{chain}"
key = "{key}"
[[listener]]
address = "127.0.0.1:{port}"
tls = "implicit"
service = "mx"
""")
        floor_port, openssl_port = free_port(), free_port()
        quiet = dict(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=place)
        servers = {
            "floor": (subprocess.Popen([programs / "examples/tls_floor", str(floor_port), chain, key], **quiet), floor_port),
            "mta": (subprocess.Popen([programs / "mta", "run", "--config", "mta.toml"], **quiet), port),
            "openssl": (subprocess.Popen(["openssl", "s_server", "-accept", f"127.0.0.1:{openssl_port}", "-cert", chain, "-key", key,
                                          "-num_tickets", "0", "-quiet"], stdin=subprocess.PIPE, **quiet), openssl_port),
        }
        try:
            for _, its_port in servers.values():
                wait_for(its_port)
            context = ssl.create_default_context(cafile=chain)
            context.options |= ssl.OP_NO_TICKET
            held = {name: idle(context, servers[name][0].pid, servers[name][1], options.connections, name == "mta") for name in ("floor", "mta")}
            print(f"idle connections: {options.connections}; KiB each: floor {held['floor']:.1f}, mta {held['mta']:.1f}, "
                  f"beyond rustls {held['mta'] - held['floor']:.1f}")
            rates = {name: handshakes(context, process.pid, its_port, options.handshakes, name != "openssl") for name, (process, its_port) in servers.items()}
            print(f"full handshakes for a second of processor time: {', '.join(f'{name} {rate:.0f}' for name, rate in rates.items())}; "
                  f"mta / openssl {rates['mta'] / rates['openssl']:.2f}")
        finally:
            for process, _ in servers.values():
                process.kill()
                process.wait()


if __name__ == "__main__":
    main()
