"""What a trace of strace says about replies and syncs.

`check` names each `250` that left before its message was on stable storage (STANDARDS.md C3); `self_test` shows that
it finds what it must find.
"""
import collections, re

# What to trace.
CALLS = ("sendto,sendmsg,write,writev,pwrite64,pwritev,pwritev2,openat,rename,renameat,renameat2,link,linkat,"
         "fsync,fdatasync")

Call = collections.namedtuple("Call", "name text result begin end is_injected")
LINE = re.compile(r"^(?P<pid>\d+) +(?P<rest>.*)$")
RESUMED = re.compile(r"^<\.\.\. (?P<name>\w+) resumed>(?P<rest>.*)$")
RESULT = re.compile(r"^(?P<text>.*)\)\s*= (?P<result>-?\d+|\?)(?P<rest>.*)$")
DESCRIPTOR = re.compile(r"^\d+<([^>]*)>")
QUEUED = re.compile(r"250 2\.0\.0 [^\"\\]*queued as (\w+)")
TOKEN = re.compile(r"(d\d+-[0-9a-f]{8})@sink\.example")
SEGMENT = re.compile(r"/log/[0-9a-f]+\.segment$")


def parse(lines):
    """The calls of a trace in the order in which they began. Threads interleave: each lasts from a line to a line."""
    calls, open_calls = [], {}
    for number, line in enumerate(lines):
        match = LINE.match(line)
        if not match:
            continue
        pid, rest = match["pid"], match["rest"]
        begin = number
        if resumed := RESUMED.match(rest):
            if pid not in open_calls:
                continue
            begin, start = open_calls.pop(pid)
            rest = start + resumed["rest"]
        elif rest.rstrip().endswith("<unfinished ...>"):
            open_calls[pid] = (number, rest.rstrip().removesuffix("<unfinished ...>"))
            continue
        if (whole := RESULT.match(rest)) and (name := re.match(r"\w+\(", whole["text"])):
            result = None if whole["result"] == "?" else int(whole["result"])
            is_injected = "(INJECTED)" in whole["rest"]
            calls.append(Call(name[0][:-1], whole["text"][name.end():], result, begin, number, is_injected))
    # What was still running in the end began all the same.
    for begin, rest in open_calls.values():
        if name := re.match(r"\w+\(", rest):
            calls.append(Call(name[0][:-1], rest[name.end():], None, begin, float("inf"), False))
    return sorted(calls, key=lambda call: call.begin)


def descriptor(call):
    """What the first argument of the call is: a path, or `TCP:…`."""
    match = DESCRIPTOR.match(call.text)
    return match[1] if match else ""


def paths(call):
    return [text for text in re.findall(r'"([^"]*)"', call.text)]


def octets(call):
    """How many octets the call was asked to write."""
    parts = re.findall(r"iov_len=(\d+)", call.text)
    if parts:
        return sum(int(part) for part in parts)
    return int(re.search(r", (\d+)(?:, \d+)?$", call.text)[1])


class Trace:
    """The calls that matter, by what they do."""

    def __init__(self, lines):
        calls = parse(lines)
        self.writes = [c for c in calls if c.name in ("write", "writev", "pwrite64", "pwritev", "pwritev2")]
        self.syncs = collections.defaultdict(list)
        for call in calls:
            if call.name in ("fsync", "fdatasync"):
                self.syncs[descriptor(call)].append(call)
        self.names = [c for c in calls if c.name.startswith(("rename", "link"))
                      or c.name == "openat" and "O_CREAT" in c.text]
        self.replies = [(c, found) for c in calls if descriptor(c).startswith(("TCP:", "TCPv6:"))
                        and c.name in ("sendto", "sendmsg", "write", "writev") for found in QUEUED.findall(c.text)]
        self.injected = [c for c in calls if c.is_injected]
        self.records = collections.defaultdict(list)
        for write in self.writes:
            # A write that failed holds nothing; whoever repeats it is not blamed.
            if SEGMENT.search(descriptor(write)) and write.result != -1:
                for token in set(TOKEN.findall(write.text)):
                    self.records[token].append(write)

    def synced(self, path, after, before):
        """Whether a sync of that path began behind `after` and returned 0 in front of `before`."""
        return any(s.begin > after and s.end < before and s.result == 0 for s in self.syncs[path])

    def synced_at_once(self, path, after, before):
        """The same of the first sync that began behind `after`: once one has failed, no later one can be believed
        (STANDARDS.md C7)."""
        first = next((sync for sync in self.syncs[path] if sync.begin > after), None)
        return first is not None and first.end < before and first.result == 0

    def log_syncs(self):
        return sum(len(calls) for path, calls in self.syncs.items() if SEGMENT.search(path))


def check(trace, sent):
    """What is wrong, one line for each reply that left too early. `sent`: queue id to (token, octets)."""
    problems = []
    for reply, queue_id in trace.replies:
        if queue_id not in sent:
            problems.append(f"{queue_id}: nobody sent it")
        elif problem := early(trace, reply, queue_id, *sent[queue_id]):
            problems.append(f"{queue_id}: {problem}")
    missing = set(sent) - {queue_id for _, queue_id in trace.replies}
    return problems + [f"{queue_id}: its reply is not in the trace" for queue_id in sorted(missing)]


def early(trace, reply, queue_id, token, size):
    """Why this reply left too early; None if it did not."""
    record = next((write for write in trace.records[token] if write.end < reply.begin), None)
    if record is None:
        return "no write to the log holds it before the reply"
    if record.result != octets(record):
        return f"of {octets(record)} octets of its record {record.result} were written"
    segment = descriptor(record)
    if not trace.synced_at_once(segment, record.end, reply.begin):
        return "no sync of its segment between the write and the reply"
    named = [c for c in trace.names if c.end < reply.begin and paths(c) and paths(c)[-1] == segment and c.result != -1]
    if named and not trace.synced(segment.rpartition("/")[0], named[-1].end, reply.begin):
        return "the name of its segment is not synced"
    if f"Message-ID: <{token}@" in record.text:
        return None
    return early_content(trace, record, queue_id, size)


def early_content(trace, record, queue_id, size):
    """The same for content that has a file of its own."""
    rename = next((c for c in trace.names if c.name.startswith("rename") and c.result == 0
                   and paths(c)[-1].endswith(f"/content/{queue_id}")), None)
    if rename is None or rename.end > record.begin:
        return "its content is not renamed before the record is written"
    source, target = paths(rename)
    aliases = {source} | {paths(c)[0] for c in trace.names if "link" in c.name and paths(c)[-1] == source}
    writes = [w for w in trace.writes if descriptor(w) in aliases]
    if sum(w.result or 0 for w in writes) < size:
        return "the file of its content is not whole"
    last = max(w.end for w in writes)
    if not any(trace.synced(alias, last, rename.begin) for alias in aliases):
        return "its content is not synced before it is renamed"
    if not trace.synced(target.rpartition("/")[0], rename.end, record.begin):
        return "the directory of its content is not synced before the record is written"
    return None


# A small message and a large one, as strace shows them; a segment that is new.
GOOD = r'''
1 openat(AT_FDCWD</q>, "/q/log/1.segment", O_RDWR|O_CREAT|O_EXCL|O_CLOEXEC, 0600) = 5</q/log/1.segment>
1 fsync(6</q/log>) = 0
2 write(9</q/incoming/content-a.tmp>, "Message-ID: <d2-00000002@client.example>\r\n"..., 200) = 200
2 write(9</q/incoming/content-a.tmp>, "x"..., 100) = 100
1 pwritev(5</q/log/1.segment>, [{iov_base="SM", iov_len=40}, {iov_base="d1-00000001@sink.example", iov_len=60}, {iov_base="Message-ID: <d1-00000001@client.example>", iov_len=100}], 3, 0 <unfinished ...>
2 linkat(AT_FDCWD</q>, "/q/incoming/content-a.tmp", AT_FDCWD</q>, "/q/incoming/b", 0) = 0
1 <... pwritev resumed>) = 200
4 fdatasync(5</q/log/1.segment> <unfinished ...>
2 fdatasync(9</q/incoming/b>) = 0
4 <... fdatasync resumed>) = 0
3 sendto(7<TCP:[127.0.0.1:25->127.0.0.1:9]>, "250 2.0.0 Ok: queued as a\r\n", 27, MSG_NOSIGNAL, NULL, 0) = 27
2 rename("/q/incoming/b", "/q/content/b") = 0
2 fsync(6</q/content>) = 0
1 pwritev(5</q/log/1.segment>, [{iov_base="SM", iov_len=40}, {iov_base="d2-00000002@sink.example", iov_len=60}], 2, 512) = 100
1 fdatasync(5</q/log/1.segment>) = 0
3 sendto(8<TCP:[127.0.0.1:25->127.0.0.1:9]>, "250 2.0.0 Ok: queued as b\r\n", 27, MSG_NOSIGNAL, NULL, 0) = 27
'''.strip().splitlines()
LAST_SYNC = "1 fdatasync(5</q/log/1.segment>) = 0"
GOOD_SENT = {"a": ("d1-00000001", 100), "b": ("d2-00000002", 300)}


def index(start, lines=GOOD):
    return next(number for number, line in enumerate(lines) if line.startswith(start))


def without(start):
    return [line for number, line in enumerate(GOOD) if number != index(start)]


def changed(start, old, new):
    assert old in GOOD[index(start)], start
    return [line.replace(old, new) if number == index(start) else line for number, line in enumerate(GOOD)]


def moved(start, behind):
    lines = without(start)
    place = index(behind, lines) + 1
    return lines[:place] + [GOOD[index(start)]] + lines[place:]


def bad_traces():
    """Name; what is said of which message; lines."""
    no_sync = [line for line in GOOD if "fdatasync" not in line or "incoming" in line]
    log = "no sync of its segment between the write and the reply"
    return [
        ("no sync of the log", {"a": log, "b": log}, no_sync),
        ("the reply before the sync has returned", {"a": log}, moved("3 sendto(7", "2 fdatasync(9")),
        ("the sync began before the write had returned", {"a": log}, moved("1 <... pwritev", "2 fdatasync(9")),
        ("the sync fails", {"a": log}, changed("4 <... fdatasync", "= 0", "= -1 EIO (Input/output error)")),
        ("a sync that failed is repeated and believed", {"b": log},
         [line for text in GOOD
          for line in ([text.replace("= 0", "= -1 EIO"), text] if text == LAST_SYNC else [text])]),
        ("another file is synced", {"b": log}, changed("1 fdatasync(5</q/log/1.segment>)", "1.segment", "2.segment")),
        ("a short write", {"a": "of 200 octets of its record 150 were written"},
         changed("1 <... pwritev", "200", "150")),
        ("no record", {"b": "no write to the log holds it before the reply"}, without("1 pwritev(5</q/log/1.segment>, "
         '[{iov_base="SM", iov_len=40}, {iov_base="d2')),
        ("the name of the segment is not synced", dict.fromkeys("ab", "the name of its segment is not synced"),
         without("1 fsync(6</q/log>)")),
        ("content is not synced", {"b": "its content is not synced before it is renamed"}, without("2 fdatasync(9")),
        ("content is written behind its sync", {"b": "its content is not synced before it is renamed"},
         moved("2 write(9</q/incoming/content-a.tmp>, \"x\"", "2 fdatasync(9")),
        ("content is not whole", {"b": "the file of its content is not whole"}, changed(
            "2 write(9</q/incoming/content-a.tmp>, \"x\"", "= 100", "= -1 ENOSPC")),
        ("content is not renamed", {"b": "its content is not renamed before the record is written"},
         without("2 rename(")),
        ("the directory of content is not synced",
         {"b": "the directory of its content is not synced before the record is written"},
         without("2 fsync(6</q/content>)")),
        ("the directory of content is synced too late",
         {"b": "the directory of its content is not synced before the record is written"},
         moved("2 fsync(6</q/content>)", '1 pwritev(5</q/log/1.segment>, [{iov_base="SM", iov_len=40}, {iov_base="d2')),
    ]


def self_test(results):
    found = check(Trace(GOOD), GOOD_SENT)
    results.check("self-test: a good trace", found == [], found or "")
    for name, expected, lines in bad_traces():
        found = check(Trace(lines), GOOD_SENT)
        ok = found == [f"{queue_id}: {problem}" for queue_id, problem in expected.items()]
        results.check(f"self-test: {name}", ok, "" if ok else found)
