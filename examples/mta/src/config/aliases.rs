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

#[cfg(test)]
mod tests {
    use crate::config::Config;

    #[test] // SECURITY.md D-17, D-18: aliases of aliases, loops, and who is elsewhere
    fn d18_aliases_lead_to_mailboxes_and_never_back() {
        const RELAY: &str = "[relay]\nsmart_host = \"smtp.example.com:25\"\n";
        let parse = |aliases: &str| Config::parse("mta.toml", format!("{RELAY}[aliases]\n{aliases}"));
        let config = parse(
            "\"a@localhost\" = [\"B@localhost\", \"alice@localhost\", \"x@else.example\"]\n\
             \"b@localhost\" = [\"c@localhost\", \"y@else.example\"]\n\"c@localhost\" = [\"alice@localhost\"]\n",
        );
        let config = config.expect("it makes sense");
        let written = |name: &str| {
            let (_, mailboxes) = config.aliases.iter().find(|(alias, _)| alias.to_string() == name).expect("an alias");
            mailboxes.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(written("a@localhost"), "alice@localhost y@else.example x@else.example");
        assert_eq!(written("c@localhost"), "alice@localhost");
        assert_eq!(config.forwards().count(), 2);
        let again = Config::parse("mta.toml", config.to_toml().expect("it can be written")).expect("it makes sense");
        assert_eq!(again.aliases, config.aliases);

        let error = |aliases: &str| parse(aliases).expect_err("something is wrong").to_string();
        let own = error("\"a@localhost\" = [\"b@localhost\"]\n\"b@localhost\" = [\"A@localhost\"]\n");
        assert_eq!(
            own,
            "mta.toml:4:17: aliases: `a@localhost` leads back to `a@localhost`\n\
             mta.toml:5:17: aliases: `b@localhost` leads back to `b@localhost`"
        );
        let chain = |length: usize| {
            let line = |n: usize| format!("\"a{n}@localhost\" = [\"a{}@localhost\"]\n", n + 1);
            (1..length).map(line).collect::<String>() + &format!("\"a{length}@localhost\" = [\"alice@localhost\"]\n")
        };
        assert!(parse(&chain(20)).is_ok());
        assert!(
            error(&chain(21)).ends_with("`a1@localhost` leads through more than 20 aliases"),
            "{}",
            error(&chain(21))
        );
        let many = |count: usize| {
            let all: Vec<_> = (0..count).map(|n| format!("\"m{n}@else.example\"")).collect();
            let (one, two) = all.split_at(count / 2);
            format!(
                "\"a@localhost\" = [\"b@localhost\", \"c@localhost\"]\n\"b@localhost\" = [{}]\n\"c@localhost\" = [{}]\n",
                one.join(", "),
                two.join(", ")
            )
        };
        assert!(parse(&many(1000)).is_ok());
        assert!(error(&many(1002)).contains("`a@localhost` leads to 1001 mailboxes; 1 to 1000 are possible"));
        // Doubled at each of 20 steps: looked at once each.
        let doubled = |n: usize| format!("\"a{n}@localhost\" = [\"a{0}@localhost\", \"a{0}@localhost\"]\n", n + 1);
        let doubled = (1..20).map(doubled).collect::<Vec<_>>().concat();
        assert!(parse(&format!("{doubled}\"a20@localhost\" = [\"alice@localhost\"]\n")).is_ok());

        let ten = parse(&many(20)).expect("it makes sense");
        assert_eq!(ten.warnings().len(), 1, "{:?}", ten.warnings());
        assert!(ten.warnings()[0].starts_with("`a@localhost` leads to 20 mailboxes elsewhere"), "PRACTICES.md S31");
    }
}
