#!/usr/bin/env python3
"""SECURITY.md T9: good traffic beside idle and slow clients, against the `sink` example on loopback.

  cargo build --release --examples -p examples
  python3 benches/slow_flood.py [--idle 15000] [--slow 2000] [--messages 20000]

Prints the rate of good traffic (Postfix's smtp-source, 10 sessions, 1 KiB) without and with the flood, the time from
connect to 220 for probes during the flood, and the resident memory of the server. Needs smtp-source and as many
descriptors as connections. Ends by itself.
"""
import argparse, os, random, resource, socket, subprocess, sys, threading, time

PORT = 2531


def rss_mib(pid):
    for line in open(f"/proc/{pid}/status"):
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024


def good_rate(messages):
    start = time.perf_counter()
    subprocess.run(["smtp-source", "-s", "10", "-l", "1024", "-m", str(messages), "-d", "-f", "a@b.example",
                    "-t", "c@d.example", f"127.0.0.1:{PORT}"], check=True)
    return messages / (time.perf_counter() - start)


def dial(index):
    s = socket.socket()
    s.bind((f"127.0.{1 + index // 200 % 200}.{1 + index % 200}", 0))
    s.connect(("127.0.0.1", PORT))
    s.settimeout(20)
    s.recv(200)
    s.send(b"EHLO client.example\r\n")
    s.recv(1000)
    return s


def slow(sockets, stop):
    """Each client sends a part of a command or of content every second or so, for as long as it may."""
    for s in sockets[::2]:
        s.send(b"MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\n")
    position = 0
    while not stop.is_set():
        for s in sockets:
            try:
                s.send(b"N"[position % 1:][:1])
            except OSError:
                pass
        position += 1
        stop.wait(1)


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--idle", type=int, default=15000)
    options.add_argument("--slow", type=int, default=2000)
    options.add_argument("--messages", type=int, default=20000)
    options.add_argument("--sink", default="target/release/examples/sink")
    options = options.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard < options.idle + options.slow + 100:
        sys.exit(f"skipped: descriptors ({hard} allowed)")
    total = options.idle + options.slow + 1000
    server = subprocess.Popen([options.sink, f"127.0.0.1:{PORT}", "--connections", str(total), "--transactions", "1000000"],
                              stdout=subprocess.DEVNULL)
    try:
        time.sleep(0.5)
        alone = max(good_rate(options.messages) for _ in range(3))
        before = rss_mib(server.pid)
        idle = [dial(i) for i in range(options.idle)]
        slow_ones = [dial(options.idle + i) for i in range(options.slow)]
        stop = threading.Event()
        thread = threading.Thread(target=slow, args=(slow_ones, stop))
        thread.start()
        time.sleep(2)
        beside = max(good_rate(options.messages) for _ in range(3))
        probes = []
        for _ in range(500):
            start = time.perf_counter()
            s = socket.create_connection(("127.0.0.1", PORT), 10)
            s.recv(200)
            probes.append(time.perf_counter() - start)
            s.close()
            time.sleep(random.random() * 0.005)
        after = rss_mib(server.pid)
        stop.set()
        thread.join()
        probes.sort()
        print(f"good traffic alone {alone:.0f}/s, beside the flood {beside:.0f}/s: {100 * beside / alone:.0f} %")
        print(f"connect to 220: median {1000 * probes[250]:.1f} ms, p99 {1000 * probes[495]:.1f} ms")
        print(f"resident {before:.1f} MiB before, {after:.1f} MiB with {len(idle)} idle and {len(slow_ones)} slow connections")
        answered = sum(1 for s in idle if s.fileno() >= 0)
        print(f"idle connections still open at the client: {answered}")
    finally:
        server.terminate()
        server.wait()


main()
