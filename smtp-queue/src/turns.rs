//! Who comes next of those who are due at one site: the most urgent (RFC 6710 §5.1), and now and then whoever has waited
//! longest.
//!
//! Without the second nobody of the lower priorities would ever leave while there is enough of the higher ones. With it
//! whoever waits at a site leaves behind at most [`EVERY`] times as many others as were due before it.

/// Of so many places one goes to whoever has waited longest, whatever its priority: 4 (ours).
const EVERY: u8 = 4;

/// Counts the places of one site.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Turns(u8);

impl Turns {
    /// A place is given: whether to whoever has waited longest.
    pub(crate) fn is_for_the_oldest(&mut self) -> bool {
        self.0 = (self.0 + 1) % EVERY;
        self.0 == 0
    }
}
