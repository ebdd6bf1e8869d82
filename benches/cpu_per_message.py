#!/usr/bin/env python3
"""Processor time for each message: the `sink` example beside Postfix's smtp-sink, under Postfix's smtp-source.

  cargo build --release --examples -p examples
  python3 benches/cpu_per_message.py

Both servers run on processor 1, the client on processor 0, ten sessions that are kept. The figure to compare is the
ratio within one run. Needs smtp-source and smtp-sink (Debian: postfix). Ends by itself.
"""
import argparse, os, shutil, socket, statistics, subprocess, sys, time

PORT = 2533
SIZES = [1 << 10, 10 << 10, 100 << 10, 1 << 20]


def cpu(pid):
    """Seconds of processor time of a process so far."""
    fields = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(command, runs):
    server = subprocess.Popen(["taskset", "-c", "1", *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(100):
            try:
                socket.create_connection(("127.0.0.1", PORT), 1).close()
                break
            except OSError:
                time.sleep(0.05)
        results = []
        for size in SIZES:
            count = max(200, min(20000, (400 << 20) // size))
            samples = []
            for _ in range(runs):
                before = cpu(server.pid)
                subprocess.run(["taskset", "-c", "0", "smtp-source", "-s", "10", "-l", str(size), "-m", str(count), "-d",
                                "-f", "a@b.example", "-t", "c@d.example", f"127.0.0.1:{PORT}"], check=True)
                samples.append((cpu(server.pid) - before) / count)
            results.append(statistics.median(samples))
        return results
    finally:
        server.terminate()
        server.wait()


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--sink", default="target/release/examples/sink")
    options.add_argument("--runs", type=int, default=3)
    options = options.parse_args()
    for program in ("smtp-source", "smtp-sink", "taskset"):
        if not shutil.which(program):
            sys.exit(f"skipped: {program}")
    address = f"127.0.0.1:{PORT}"
    ours = measure([options.sink, address, "--transactions", "1000000", "--memory", str(16 << 20)], options.runs)
    theirs = measure(["smtp-sink", "-u", "nobody", address, "4096"], options.runs)
    print("| size | sink | smtp-sink | ratio |\n|---|---|---|---|")
    for size, our, their in zip(SIZES, ours, theirs):
        print(f"| {size >> 10} KiB | {our * 1e6:.0f} us | {their * 1e6:.0f} us | {our / their:.2f} |")


main()
