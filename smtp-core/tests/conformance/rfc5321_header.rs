//! RFC 5321 §3.3, §3.7.2: what stands in a header section is no business of a server that receives.

use crate::support::machine::{Machine, config};

#[test]
fn r5321_no_header_section_is_a_reason_to_refuse() {
    for content in [
        "no header section at all\r\n",
        "\r\nonly a body\r\n",
        "Subject: no From and no Date\r\n\r\nx\r\n",
        "From: nobody in particular\r\nDate: yesterday\r\n\r\nx\r\n",
        "From: <a@b.example>\r\nFrom: <c@d.example>\r\n\r\nx\r\n",
        "Resent-To: <alice@example.org>\r\n\r\nx\r\n",
        "Resent-From: <a@b.example>\r\nResent-From: <a@b.example>\r\nResent-To: <alice@example.org>\r\n\r\nx\r\n",
        "Received: \r\n\r\nx\r\n",
        "Received: by magic; the day before\r\nReceived:(((\r\n\r\nx\r\n",
        "Received: from [300.1.2.3] by \"\" with ??? id ;;;\r\n\r\nx\r\n",
        "Content-Type: multipart/mixed\r\n\r\n--not closed\r\n",
    ] {
        let mut machine = Machine::with_recipient(config());
        assert_eq!(machine.replies("DATA\r\n"), ["354"]);
        assert_eq!(machine.replies(format!("{content}.\r\n")), ["250 2.0.0"], "{content:?}");
        assert_eq!(machine.delivered[0].content, content.as_bytes(), "as it came");
    }
}
