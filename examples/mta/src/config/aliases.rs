//! Other names of mailboxes: what each leads to in the end, here and elsewhere.

use std::collections::{BTreeMap, HashMap, HashSet};

use smtp_core::Mailbox;
use toml::Spanned;

use super::check::Directory;

/// The table as it stands in a file.
pub(super) type AliasTable = BTreeMap<Spanned<String>, Spanned<Vec<Spanned<String>>>>;

/// Aliases of aliases of aliases: no more than that (SECURITY.md D-17).
const DEPTH_LIMIT: usize = 20;

/// Where an alias leads.
enum Target {
    Mailbox(Mailbox),
    /// To another alias, by its key.
    Alias(String),
}

/// Each alias with the mailboxes that it leads to in the end, each of them once.
pub(super) fn check(
    directory: &mut Directory<'_, '_>,
    table: &AliasTable,
    most: usize,
    has_way_out: bool,
) -> Vec<(Mailbox, Vec<Mailbox>)> {
    let names: HashSet<String> = table.keys().map(|name| key(name.get_ref())).collect();
    let mut aliases = Vec::new();
    let mut targets: HashMap<String, Vec<Target>> = HashMap::new();
    for (name, texts) in table {
        let alias = directory.local_mailbox("aliases", name).filter(|it| directory.is_new_name("aliases", it, name));
        let found = texts.get_ref().iter().filter_map(|text| target(directory, text, &names, has_way_out)).collect();
        targets.insert(key(name.get_ref()), found);
        aliases.extend(alias.map(|alias| (alias, name, texts)));
    }
    let mut expanded = Vec::new();
    for (alias, name, texts) in aliases {
        let mut mailboxes = Vec::new();
        let mut expansion = Expansion { targets: &targets, most, way: Vec::new(), passed: HashSet::new() };
        let wrong = expansion.follow(&key(name.get_ref()), &mut mailboxes).err();
        let count = if texts.get_ref().is_empty() { 0 } else { mailboxes.len().max(texts.get_ref().len()) };
        let shown = name.get_ref();
        if let Some(wrong) = wrong {
            directory.report.add(texts.span(), "aliases", format!("`{shown}` {wrong}"));
        } else if count == 0 || count > most {
            let problem = format!("`{shown}` leads to {count} mailboxes; 1 to {most} are possible");
            directory.report.add(texts.span(), "aliases", problem);
        }
        expanded.push((alias, mailboxes));
    }
    expanded
}

/// As names of mailboxes compare here.
fn key(text: &str) -> String {
    text.to_ascii_lowercase()
}

fn target(
    directory: &mut Directory<'_, '_>,
    text: &Spanned<String>,
    names: &HashSet<String>,
    has_way_out: bool,
) -> Option<Target> {
    let name = key(text.get_ref());
    if names.contains(&name) {
        return Some(Target::Alias(name));
    }
    let outside = text.get_ref().parse::<Mailbox>().ok().filter(|_| has_way_out);
    let outside = outside.filter(|mailbox| mailbox.domain().is_none_or(|domain| !directory.domains.contains(domain)));
    match outside {
        Some(mailbox) => Some(Target::Mailbox(mailbox)),
        None => directory.destination("aliases", text).map(Target::Mailbox),
    }
}

/// One alias on its way to mailboxes.
struct Expansion<'a> {
    targets: &'a HashMap<String, Vec<Target>>,
    most: usize,
    way: Vec<String>,
    /// What has been followed to its end.
    passed: HashSet<String>,
}

impl Expansion<'_> {
    /// Follows an alias to its mailboxes; says what is wrong with the way.
    fn follow(&mut self, alias: &str, mailboxes: &mut Vec<Mailbox>) -> Result<(), String> {
        if self.way.iter().any(|passed| passed == alias) {
            return Err(format!("leads back to `{alias}`"));
        }
        if self.way.len() == DEPTH_LIMIT {
            return Err(format!("leads through more than {DEPTH_LIMIT} aliases"));
        }
        if self.passed.contains(alias) {
            return Ok(());
        }
        self.way.push(alias.to_owned());
        for target in self.targets.get(alias).into_iter().flatten() {
            match target {
                Target::Alias(next) => self.follow(next, mailboxes)?,
                // One more than is possible is enough to know.
                Target::Mailbox(mailbox) if mailboxes.len() <= self.most && !mailboxes.contains(mailbox) => {
                    mailboxes.push(mailbox.clone());
                }
                Target::Mailbox(_) => {}
            }
        }
        self.way.pop();
        self.passed.insert(alias.to_owned());
        Ok(())
    }
}
