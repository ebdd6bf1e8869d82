//! What `BODY=` says of content (RFC 6152, RFC 3030 §3): what the envelope says, or what a look at the octets shows.

use crate::session::client::BLOCK_OCTETS;
use crate::session::client::envelope::Envelope;
use crate::session::client::offers::Offers;
use crate::syntax::content::{DataEncoder, Defect};
use crate::syntax::parameter::Body;

use super::content_source::ContentSource;

/// What is said of the content. Looks at what is in memory; what fits into a block is checked by the session.
///
/// # Errors
/// [`Defect`] where the content is not lines, and the server takes nothing else.
pub(super) fn body_of(
    envelope: &Envelope,
    content: &impl ContentSource,
    offers: Offers,
) -> Result<Option<Body>, Defect> {
    if envelope.body() == Some(Body::BinaryMime) {
        return Ok(envelope.body());
    }
    if content.len() > BLOCK_OCTETS as u64
        && let Some(defect) = find_defect(content)
    {
        // SECURITY D-2: unchanged, or not at all.
        return if offers.chunking() && offers.binarymime() { Ok(Some(Body::BinaryMime)) } else { Err(defect) };
    }
    Ok(if is_undeclared_eight_bit(envelope, content) { Some(Body::EightBitMime) } else { envelope.body() })
}

/// Whether nobody has said of content in memory that it has octets above 127.
fn is_undeclared_eight_bit(envelope: &Envelope, content: &impl ContentSource) -> bool {
    let mut is_ascii = true;
    envelope.body().is_none() && content.look(&mut |octets| is_ascii &= octets.is_ascii()) && !is_ascii
}

/// What is wrong with content that is in memory.
fn find_defect(content: &impl ContentSource) -> Option<Defect> {
    let mut encoder = DataEncoder::new();
    let mut scratch = Vec::new();
    let mut found = Ok(());
    let is_in_memory = content.look(&mut |octets| {
        for block in octets.chunks(BLOCK_OCTETS) {
            scratch.clear();
            found = found.and_then(|()| encoder.encode(block, &mut scratch));
        }
    });
    scratch.clear();
    let found = found.and_then(|()| encoder.finish(&mut scratch));
    if is_in_memory { found.err() } else { None }
}
