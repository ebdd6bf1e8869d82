//! Our seal on what we hand on: what we saw of the message, for those behind us (PRACTICES S39; RFC 8617 §5.1).

use std::io;
use std::sync::Arc;

use smtp_core::{
    Domain, HeaderField, Outbound, OutboundContent, OutboundPolicy, OutboundRecipient, Transient, async_trait,
};

use crate::arc::{ArcChain, ArcResult, RESULTS, SEAL, SETS_LIMIT, SIGNATURE, number};
use crate::auth_results::{FIELD, claims, results};
use crate::dkim_signer::{DkimSigner, Unsigned, seconds};
use crate::dkim_signing::is_ours;
use crate::header::fields;
use crate::signature::{Signed, tag};
use crate::signing_room::SigningRoom;

/// Seals what strangers sent and what goes on to others: an alias that leads out of our domains.
///
/// The set of fields says what our own `Authentication-Results` says, so the message must have come through a
/// [`Chain`](crate::Chain) that [reports](crate::Chain::reporting_as). Whether the chain of seals holds is what that field says,
/// since a filter may have written another body since then; it is verified anew only where the field does not say.
///
/// A chain that does not hold is sealed once, with `cv=fail`, and by nobody after that; one of 50 sets, or of none that has a
/// number, gets no other. Where DNS does not answer for the keys of those before us there is no seal: those behind us may learn
/// what we could not, and `cv=fail` would be final.
#[derive(Debug, Clone)]
pub struct ArcSealing {
    chain: ArcChain,
    signer: Arc<DkimSigner>,
    ours: Vec<Domain>,
    authserv_id: Domain,
    room: SigningRoom,
}

impl ArcSealing {
    /// With what verifies the chain so far, with the keys of this signer, and these domains as ours: mail for them is not sealed.
    ///
    /// A set has one signature, so of the signer's keys the first RSA key is used, which everybody knows, or else the first.
    pub fn new(chain: ArcChain, signer: impl Into<Arc<DkimSigner>>, ours: impl IntoIterator<Item = Domain>) -> Self {
        let (signer, ours) = (signer.into(), ours.into_iter().collect());
        let authserv_id = signer.domain().clone();
        Self { chain, signer, ours, authserv_id, room: SigningRoom::default() }
    }

    /// With the name under which the [`Chain`](crate::Chain) reports. Default: the domain of the signer.
    ///
    /// Of the fields above our `Received` the one with this name is sealed as ours. Filters write there as well: where several
    /// have the name, none is.
    #[must_use]
    pub fn reporting_as(self, authserv_id: &Domain) -> Self {
        Self { authserv_id: authserv_id.clone(), ..self }
    }

    fn leaves(&self, recipient: &OutboundRecipient) -> bool {
        recipient.mailbox().domain().is_none_or(|domain| !self.ours.contains(domain))
    }
}

#[async_trait]
impl OutboundPolicy for ArcSealing {
    /// Leaves the reverse-paths as they are.
    async fn enqueue(&self, _: &Outbound<'_>, _: &mut [OutboundRecipient]) -> Result<(), Transient> {
        Ok(())
    }

    async fn sign(
        &self,
        message: &Outbound<'_>,
        recipients: &[OutboundRecipient],
        content: &OutboundContent,
    ) -> Result<Vec<HeaderField>, Transient> {
        if is_ours(message) || !recipients.iter().any(|recipient| self.leaves(recipient)) {
            return Ok(Vec::new());
        }
        let mut seen = seen(content.head(), &self.authserv_id);
        let said = results(&seen).iter().find_map(|result| ArcResult::read(result));
        let status = match said {
            Some(status) => status,
            None => self.chain.verify(content.arrived()).await.map_err(Transient::new)?.result,
        };
        if status == ArcResult::TempError {
            return Ok(Vec::new());
        }
        if said.is_none() {
            seen = format!("{}; arc={}", seen.strip_suffix("; none").unwrap_or(&seen), status.as_str());
        }
        let (signer, content) = (self.signer.clone(), content.clone());
        self.room.run(move || seal(&signer, &content, &seen, status)).await
    }
}

/// The three fields of a set, the seal on top.
fn seal(signer: &DkimSigner, content: &OutboundContent, seen: &str, status: ArcResult) -> io::Result<Vec<HeaderField>> {
    let message = Unsigned::read(content.reader()?)?;
    let section = Signed::new(&message.section);
    let Some(number) = next_number(&section) else { return Ok(Vec::new()) };
    // The first set says `cv=none`, and no other does (RFC 8617 §5.2).
    if (number == 1) != (status == ArcResult::None) {
        return Ok(Vec::new());
    }
    let (now, mut keys) = signer.valid_keys();
    let Some(first) = keys.next() else { return Ok(Vec::new()) };
    let key = if first.is_rsa() { first } else { keys.find(|key| key.is_rsa()).unwrap_or(first) };

    let field = |name, value: &str| HeaderField::new(name, value).map_err(io::Error::other);
    let seen = field(RESULTS, &format!("i={number}; {seen}"))?;
    let first_tag = format!("i={number}");
    let signature = message.signature(key, (SIGNATURE, &first_tag), signer.domain(), now, &["dkim-signature"])?;
    let unsigned = format!(
        "i={number}; a={}; cv={}; d={}; s={}; t={}; b=",
        key.algorithm(),
        status.as_str(),
        signer.domain(),
        key.selector(),
        seconds(now)
    );
    // Of a chain that does not hold nothing is covered (RFC 8617 §5.1.2).
    let before = if status == ArcResult::Pass { sets_before(&section, number) } else { Vec::new() };
    let own = [&seen, &signature].map(|field| name_and_value(field.as_bytes()));
    let seal = key.signed_field(SEAL, &unsigned, before.into_iter().chain(own))?;
    Ok(vec![seal, signature, seen])
}

/// The number of the set that is to be added; `None` where there may be none (RFC 8617 §4.2.1, §5.1): there are 50, or somebody has
/// sealed that the chain does not hold.
fn next_number(section: &Signed<'_>) -> Option<usize> {
    let mut all = [RESULTS, SIGNATURE, SEAL].into_iter().flat_map(|name| section.named(name)).peekable();
    let is_first = all.peek().is_none();
    let highest = all.filter_map(|field| number(field.value)).max();
    // Fields without a number that counts are no chain that one could go on with.
    let highest = if is_first { 0 } else { highest? };
    let ended = |field: crate::header::Field<'_>| {
        number(field.value) == Some(highest)
            && tag(field.value, "cv").is_some_and(|cv| cv.eq_ignore_ascii_case(b"fail"))
    };
    (highest < SETS_LIMIT && !section.named(SEAL).any(ended)).then_some(highest + 1)
}

/// The fields of a chain that holds, in the order in which a seal covers them (RFC 8617 §5.1.1).
fn sets_before<'a>(section: &Signed<'a>, number: usize) -> Vec<(&'a [u8], &'a [u8])> {
    let field = |at: usize, name| {
        let field = section.named(name).find(|field| crate::arc::number(field.value) == Some(at))?;
        Some((field.name_as_written, field.value))
    };
    (1..number).flat_map(|at| [RESULTS, SIGNATURE, SEAL].map(|name| field(at, name))).flatten().collect()
}

fn name_and_value(field: &[u8]) -> (&[u8], &[u8]) {
    let colon = field.iter().position(|&octet| octet == b':').unwrap_or(field.len());
    (&field[..colon], field.get(colon + 1..).unwrap_or_default())
}

/// What our own `Authentication-Results` says; nothing where it cannot be told from that of a filter. Above our `Received` stands
/// only what we wrote, one such field of each message, and what filters wrote.
fn seen(head: &[u8], authserv_id: &Domain) -> String {
    let name = authserv_id.to_ascii();
    let above = fields(head).take_while(|field| !field.is("Received")).filter(|field| field.is(FIELD));
    let values = above.map(|field| String::from_utf8_lossy(field.value).into_owned());
    let mut own = values.filter(|value| claims(value, name.as_str()));
    match (own.next(), own.next()) {
        (Some(value), None) => value.replace("\r\n", "").trim().to_owned(),
        _ => name.as_str().to_owned(),
    }
}
