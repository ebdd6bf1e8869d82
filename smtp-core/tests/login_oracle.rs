//! SECURITY.md T19, D-19: how long a failed login takes does not tell whether there is such a user. By the clock, and so run by
//! hand: `cargo test --release -p smtp-core --test login_oracle -- --ignored --nocapture`.

mod support;

use std::io::Write;
use std::time::{Duration, Instant};

use base64::Engine;
use smtp_core::{Limits, Listener, LoginLimits, Mailbox, PasswordFile, Secret};

use support::client::Client;
use support::world::{Inbox, Log, builder, in_process, open, unbound};

/// Logins of each kind.
const LOGINS: usize = 10_000;
/// Logins in a session.
const AT_A_TIME: usize = 5;
const SEED: u64 = 19;

/// A hash that costs little, so that ten thousand are made in a minute.
const HASH: &str = "$argon2id$v=19$m=256,t=1,p=1$c2l4dGVlbiByYW5kb20gbw$BrRen5hrcdI91yY8OW6YNBs20WUsy6ps5Txe+nTGphc";

/// A hundred users: by their numbers, with keys or with a hash.
fn users(has_hash: impl Fn(u32) -> bool) -> PasswordFile {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    for number in 0..100 {
        let user = Mailbox::parse(format!("user{number}@example.org")).expect("a mailbox");
        let salt = format!("the salt of user {number}");
        let line = if has_hash(number) {
            format!("{user} {HASH}\n")
        } else {
            PasswordFile::line(&user, &Secret::new("correct horse"), salt.as_bytes()).expect("a password")
        };
        file.write_all(line.as_bytes()).expect("room");
    }
    PasswordFile::open(file.path()).expect("users")
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

#[tokio::test]
#[ignore = "measures time, for a minute"]
async fn t19_unknown_users_and_wrong_passwords_take_the_same_time() {
    measure(users(|_| false)).await;
}

#[tokio::test]
#[ignore = "measures time, for a minute"]
async fn t19_with_hashes_too() {
    measure(users(|_| true)).await;
}

#[tokio::test]
#[ignore = "measures time, for a minute"]
async fn t19_with_keys_and_hashes_in_one_file_too() {
    measure(users(|number| number % 10 == 0)).await;
}

async fn measure(users: PasswordFile) {
    let mut limits = Limits::default();
    limits.authentication_delay = Duration::ZERO;
    limits.error_delay = Duration::ZERO;
    let mut logins = LoginLimits::default();
    (logins.per_address, logins.per_network, logins.per_account) = (u32::MAX, u32::MAX, u32::MAX);
    let builder = builder(&Inbox::default(), &Log::default()).limits(limits).login_limits(logins);
    let builder = builder.authenticate(users);
    let server = unbound(builder.listener(Listener::new("127.0.0.1:0").dangerously_authenticate_in_clear())).await;
    let mut random = fastrand::Rng::with_seed(SEED);
    let mut times = [Vec::new(), Vec::new()];
    in_process(async {
        while times.iter().any(|times| times.len() < LOGINS) {
            let mut client: Client<_> = open(&server);
            client.greet().await;
            for _ in 0..AT_A_TIME {
                // In random order, so that nothing that changes with time falls on one kind.
                let is_known = random.bool();
                let number = random.u32(0..100);
                let user =
                    if is_known { format!("user{number}@example.org") } else { format!("nobd{number}@example.org") };
                let plain = base64::engine::general_purpose::STANDARD.encode(format!("\0{user}\0not the password"));
                let begin = Instant::now();
                client.ask(&format!("AUTH PLAIN {plain}"), "535 5.7.8").await;
                times[usize::from(is_known)].push(begin.elapsed());
            }
        }
    })
    .await;
    let [unknown, known] = times.each_mut().map(|times| median(times));
    let ratio = known.as_secs_f64() / unknown.as_secs_f64();
    let counts = times.each_ref().map(Vec::len);
    println!(
        "medians of {counts:?} logins: unknown user {unknown:?}, wrong password {known:?}, ratio {ratio:.4} (seed {SEED})"
    );
    assert!((0.99..1.01).contains(&ratio), "{ratio}");
}
