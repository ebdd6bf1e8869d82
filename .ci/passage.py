"""The way from an `mta` to another mail server and from there to another `mta`, and what is checked of it whoever that server is."""

import re, smtplib, time

from under_test import CONTENTS, Mta, certificate, check, crlf, free_port, split


def relay_to(port):
    return f'''[queue]
first_retry_seconds = 1
longest_wait_seconds = 2

[relay]
smart_host = "127.0.0.1:{port}"
clients = ["127.0.0.0/8"]
'''


class Passage:
    """`first` passes all mail on to `middle`, and that to `last`, which has the mailboxes of a domain; under TLS where not said otherwise."""

    def __init__(self, stack, place, peer, *arguments, domain="example.org", tls="required"):
        place.mkdir(mode=0o755)
        chain, key = certificate(place)
        self.stack, self.place = stack, place
        # It offers DSN to clients that may relay, and has a way out for them that nobody takes here.
        self.last = self.mta("last", f'[[certificate]]\nchain = "{chain}"\nkey = "{key}"\n{relay_to(free_port())}', domain)
        self.middle = peer(place / "peer", chain, key, self.last.port, *arguments)
        stack.callback(self.middle.stop)
        self.first = self.front("first", tls)

    def mta(self, name, more, domain):
        mta = Mta(self.place / name, more, domain=domain)
        self.stack.callback(lambda: (mta.process.kill(), mta.process.wait()))
        return mta

    def front(self, name, tls):
        """An `mta` that passes all mail on to the peer."""
        return self.mta(name, f'{relay_to(self.middle.port)}tls = "{tls}"\n', "first.example")

    def send(self, content, to=("bob@example.org",), sender="sender@client.example", options=("BODY=8BITMIME",), asked=()):
        send(self.first, content, to, sender, options, asked)
        self.first.until_idle()

    def take(self, user, notifications=False):
        for _ in range(400):
            if any(self.last.maildir(user).glob("*")):
                break
            time.sleep(0.05)
        return self.last.take(user, notifications=notifications)

    def fields_and_content(self, user):
        """The fields of all hops, the last one first, and what was sent."""
        found = self.take(user)
        if len(found) != 1:
            return b"", (found, self.middle.log()[-2000:])
        fields, content = found[0]
        try:
            more, content = split(content, [*self.middle.FIELDS, b"Received:"])
        except AssertionError:
            return b"", found
        return re.sub(rb"\r\n[\t ]+", b" ", fields + more), content

    def check_notified(self, name, *parts, nowhere=()):
        """`alice@first.example` has one notification, with these parts and without those, and nothing else has arrived."""
        found = [content for _, content in self.first.take("alice", notifications=True)]
        check(name, len(found) == 1 and all(part in found[0] for part in parts) and not any(part in found[0] for part in nowhere)
              and not any(self.last.maildir("bob").glob("*")), ([content[:3000] for content in found], self.middle.log()[-2000:]))


def send(mta, content, to, sender="sender@client.example", options=("BODY=8BITMIME",), asked=()):
    with smtplib.SMTP("127.0.0.1", mta.port, "client.example", timeout=60) as client:
        client.ehlo()
        client.sendmail(sender, list(to), content, list(options), list(asked))


def hops(fields):
    """The kinds of session by which a message came, the last one first."""
    return [kind.upper() for kind in re.findall(rb"with (\w*SMTP\w*)", fields, re.I)]


def check_contents(name, passage, contents=CONTENTS, into_peer=b"ESMTPS"):
    for kind, content in contents.items():
        passage.send(content)
        fields, arrived = passage.fields_and_content("bob")
        check(f"{name} both ways, {kind}", arrived == content, str(arrived)[:2000])
        under_tls = "under TLS" if into_peer == b"ESMTPS" else "under TLS on the way back"
        check(f"{name} both ways, {kind}, {under_tls}", hops(fields)[:2] == [b"ESMTPS", into_peer], fields)


def check_dsn(name, passage, content=CONTENTS["plain"]):
    passage.send(content, ["carol@example.org"], "alice@example.org", ["BODY=8BITMIME", "RET=HDRS", "ENVID=QQ+20314159"],
                 ["NOTIFY=SUCCESS,FAILURE", "ORCPT=rfc822;Carol+2Bx@Elsewhere.Example"])
    arrived = passage.fields_and_content("carol")[1]
    check(f"{name} both ways, DSN: delivered", arrived == content, arrived)
    notified = [content for _, content in passage.take("alice", notifications=True)]
    check(f"{name} both ways, DSN: what was asked comes back", len(notified) == 1 and all(line in notified[0] for line in (
        b"Original-Envelope-Id: QQ 314159", b"Original-Recipient: rfc822; Carol+x@Elsewhere.Example",
        b"Final-Recipient: rfc822; carol@example.org", b"Action: delivered")), (notified, passage.middle.log()[-2000:]))


INTERNATIONALIZED = crlf("Subject: \u4f8b\nFrom: J\u00f6rg <j\u00f6rg@client.example>\n\n\u00fc\n".encode())


def check_internationalized(name, passage):
    passage.send(INTERNATIONALIZED, ["\u00fcser@example.org"], "j\u00f6rg@client.example", ["SMTPUTF8", "BODY=8BITMIME"])
    fields, arrived = passage.fields_and_content("%c3%bcser")
    check(f"{name} both ways, SMTPUTF8", arrived == INTERNATIONALIZED, str(arrived)[:2000])
    check(f"{name} both ways, SMTPUTF8 all the way", hops(fields)[:1] == [b"UTF8SMTPS"], fields)
