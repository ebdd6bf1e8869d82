//! Content with another body: the header section as it arrived, and what a policy wrote behind it.

use std::io::{self, Read};

use super::content::{Content, ContentStore, blocking};

/// The same header section with this body behind it; `header_octets` is the most that the section may have.
///
/// # Errors
/// Where there is no room, or reading the content failed.
pub(crate) async fn with_body(
    content: &Content,
    body: &[u8],
    header_octets: u64,
    store: &ContentStore,
) -> io::Result<Content> {
    let whole = content.clone();
    let head = match content.as_bytes() {
        Some(_) => head(&whole, header_octets)?,
        None => blocking(move || head(&whole, header_octets)).await?,
    };
    let mut writer = store.open(Some((head.len() + body.len()) as u64)).await?;
    writer.append(&head).await?;
    writer.append(body).await?;
    writer.finish().await
}

/// The header section with the empty line behind it, also where the content has none.
fn head(content: &Content, header_octets: u64) -> io::Result<Vec<u8>> {
    let mut octets = Vec::new();
    // The empty line, and the end of the line before, are not counted with it.
    content.reader()?.take(header_octets.saturating_add(4)).read_to_end(&mut octets)?;
    if octets.starts_with(b"\r\n") {
        octets.truncate(2);
    } else if let Some(end) = memchr::memmem::find(&octets, b"\r\n\r\n") {
        octets.truncate(end + 4);
    } else {
        // By `BDAT` the last line may come without its end.
        octets.extend_from_slice(if octets.is_empty() || octets.ends_with(b"\r\n") { b"\r\n" } else { b"\r\n\r\n" });
    }
    Ok(octets)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::content::ContentSettings;

    #[tokio::test]
    async fn the_header_section_stays_and_the_body_is_another() -> io::Result<()> {
        for memory_octets in [0, 1 << 20] {
            let store = ContentStore::new(&ContentSettings { memory_octets, ..ContentSettings::default() }, None);
            for (content, expected) in [
                ("A: b\r\n\r\nold\r\n", "A: b\r\n\r\nnew\r\n"),
                ("A: b\r\n c\r\nB: d\r\n\r\n\r\nold\r\n\r\n", "A: b\r\n c\r\nB: d\r\n\r\nnew\r\n"),
                ("\r\nold", "\r\nnew\r\n"),
                ("A: b\r\n", "A: b\r\n\r\nnew\r\n"),
                ("A: b", "A: b\r\n\r\nnew\r\n"),
                ("", "\r\nnew\r\n"),
            ] {
                let mut writer = store.open(None).await?;
                writer.append(content.as_bytes()).await?;
                let content = writer.finish().await?;
                let other = with_body(&content, b"new\r\n", 100, &store).await?;
                assert_eq!(other.to_bytes()?, expected.as_bytes());
            }
        }
        Ok(())
    }
}
