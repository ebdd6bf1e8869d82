//! RFC 6710 §4.2 and §4.3: what a client says of the priority of a message.

use smtp_core::{ClientLimits, Envelope, Priority};

use crate::scripted::Machine;

#[test] // Also of the normal one: the server is not left to guess.
fn r6710_the_parameter_is_said_where_it_is_offered() {
    for (offer, priority, expected) in [
        ("MT-PRIORITY", Some(3), " MT-PRIORITY=3"),
        ("mt-priority STANAG4406", Some(-9), " MT-PRIORITY=-9"),
        ("MT-PRIORITY", Some(0), " MT-PRIORITY=0"),
        ("MT-PRIORITY", None, ""),
        ("8BITMIME", Some(3), ""),
        ("MT-PRIORITYX", Some(3), ""),
    ] {
        let mut machine = Machine::new(ClientLimits::default());
        machine.receive("220 mx.example.org ESMTP\r\n");
        machine.receive(format!("250-mx.example.org\r\n250 {offer}\r\n"));
        machine.take_sent();
        let envelope = Envelope::parse("a@client.example", ["b@example.org"]).expect("mailboxes");
        let envelope = match priority.and_then(Priority::new) {
            Some(priority) => envelope.with_priority(priority),
            None => envelope,
        };
        machine.begin(&envelope, &[b"x\r\n"]);
        let mail = format!("MAIL FROM:<a@client.example>{expected}\r\n");
        assert_eq!(String::from_utf8(machine.take_sent()).expect("ASCII"), mail, "{offer} {priority:?}");
    }
}
