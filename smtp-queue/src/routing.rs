//! Where: which site a recipient's copy goes to, and by which transport.
//!
//! A [`Router`] answers at once, from what it knows. A transport that needs DNS asks for it during the attempt, when
//! there is time, so nobody waits for DNS between the end of the content and `250`.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use smtp_core::{Domain, Mailbox};

use crate::envelope::SiteName;
use crate::transport::Transport;

/// Decides where mail goes. It may change while messages wait: what is stored is the name of a site.
pub trait Router: Send + Sync + 'static {
    /// Where mail for that mailbox goes.
    fn route(&self, mailbox: &Mailbox) -> Route;

    /// The site with that name; `None` where there is none any more: its messages are routed again then.
    fn site(&self, name: &str) -> Option<Route>;
}

impl<R: Router + ?Sized> Router for Arc<R> {
    fn route(&self, mailbox: &Mailbox) -> Route {
        (**self).route(mailbox)
    }

    fn site(&self, name: &str) -> Option<Route> {
        (**self).site(name)
    }
}

/// A site: its name, how messages get there, and how much of them at once.
#[derive(Clone)]
#[non_exhaustive]
pub struct Route {
    /// Its name: messages for one site share its window and its concurrency.
    pub site: SiteName,
    /// How messages get there.
    pub transport: Arc<dyn Transport>,
    /// Attempts at a time; `None`: [`QueueSettings::concurrency_limit`](crate::QueueSettings::concurrency_limit).
    pub concurrency_limit: Option<usize>,
}

impl Route {
    /// A site without limits of its own.
    pub fn new(site: impl Into<SiteName>, transport: impl Transport) -> Self {
        Self { site: site.into(), transport: Arc::new(transport), concurrency_limit: None }
    }

    /// The same with at most so many attempts at a time; 0 counts as 1.
    #[must_use]
    pub fn with_concurrency_limit(mut self, attempts: usize) -> Self {
        self.concurrency_limit = Some(attempts.max(1));
        self
    }
}

impl fmt::Debug for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Route")
            .field("site", &self.site)
            .field("concurrency_limit", &self.concurrency_limit)
            .finish_non_exhaustive()
    }
}

/// A table of domains, and a route for everything else.
///
/// ```
/// use smtp_queue::{Discard, Route, Routing};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let local = Route::new("local", Discard);
/// let routing = Routing::new(Route::new("smarthost", Discard)).domain(&"example.org".parse()?, local);
/// # let _ = routing;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Routing {
    default: SiteName,
    /// Lower case.
    domains: HashMap<Box<str>, SiteName>,
    sites: HashMap<SiteName, Route>,
}

impl Routing {
    /// Everything goes there.
    pub fn new(default: Route) -> Self {
        let name = default.site.clone();
        Self { default: name.clone(), domains: HashMap::new(), sites: HashMap::from([(name, default)]) }
    }

    /// Mail for that domain goes there. A route whose site was named before replaces the earlier one.
    #[must_use]
    pub fn domain(mut self, domain: &Domain, route: Route) -> Self {
        self.domains.insert(domain.as_str().to_ascii_lowercase().into(), route.site.clone());
        self.sites.insert(route.site.clone(), route);
        self
    }

    /// Mail for these domains goes there.
    #[must_use]
    pub fn domains(self, domains: impl IntoIterator<Item = Domain>, route: &Route) -> Self {
        domains.into_iter().fold(self, |routing, domain| routing.domain(&domain, route.clone()))
    }

    fn site_of(&self, mailbox: &Mailbox) -> &SiteName {
        let Some(domain) = mailbox.domain().filter(|_| !self.domains.is_empty()) else { return &self.default };
        let domain = domain.as_str();
        let found = if domain.bytes().any(|octet| octet.is_ascii_uppercase()) {
            self.domains.get(&*domain.to_ascii_lowercase())
        } else {
            self.domains.get(domain)
        };
        found.unwrap_or(&self.default)
    }
}

impl Router for Routing {
    fn route(&self, mailbox: &Mailbox) -> Route {
        self.sites.get(self.site_of(mailbox)).expect("each name in the table came with its route").clone()
    }

    fn site(&self, name: &str) -> Option<Route> {
        self.sites.get(name).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::Discard;

    fn mailbox(text: &str) -> Mailbox {
        Mailbox::parse(text).expect("in the grammar")
    }

    #[test] // RFC 5321 §2.4: domains compare without case.
    fn a_mailbox_goes_where_its_domain_goes() {
        let domain = |text: &str| Domain::parse(text).expect("in the grammar");
        let local = Route::new("local", Discard).with_concurrency_limit(0);
        let routing = Routing::new(Route::new("relay", Discard))
            .domains([domain("example.org"), domain("Example.NET")], &local)
            .domain(&domain("lists.example.org"), Route::new("lists", Discard));
        for (recipient, site) in [
            ("a@example.org", "local"),
            ("a@EXAMPLE.ORG", "local"),
            ("a@example.net", "local"),
            ("a@lists.example.org", "lists"),
            ("a@sub.example.org", "relay"),
            ("a@[192.0.2.1]", "relay"),
        ] {
            assert_eq!(&*routing.route(&mailbox(recipient)).site, site, "{recipient}");
        }
        assert_eq!(routing.site("local").and_then(|route| route.concurrency_limit), Some(1));
        assert!(routing.site("gone").is_none());
    }
}
