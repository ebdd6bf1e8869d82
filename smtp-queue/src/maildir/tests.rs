//! What is there after a delivery, and after each way in which one can fail.

use super::*;
use std::time::Duration;

fn store() -> (tempfile::TempDir, MaildirStore) {
    let root = tempfile::tempdir().expect("a directory");
    let store = MaildirStore::open(root.path(), "mx.example.org").expect("it opens");
    (root, store)
}

fn maildirs(names: &[&str]) -> Vec<PathBuf> {
    names.iter().map(PathBuf::from).collect()
}

/// All files beneath a directory, links included.
fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).expect("a directory").map(|entry| entry.expect("an entry").path()) {
        if entry.is_dir() && !entry.is_symlink() { found.extend(files(&entry)) } else { found.push(entry) }
    }
    found.sort();
    found
}

fn write_number(place: usize, file: &mut dyn Write) -> io::Result<()> {
    write!(file, "copy {place}")
}

#[test]
fn each_maildir_has_its_copy_in_new() {
    let (root, store) = store();
    let many: Vec<_> = (0..OPEN_COPIES * 2 + 3).map(|number| PathBuf::from(format!("localhost/u{number}"))).collect();
    let names = store.deliver(&many, write_number).expect("delivered");
    for (place, (maildir, name)) in many.iter().zip(&names).enumerate() {
        let file = root.path().join(maildir).join("new").join(name);
        assert_eq!(fs::read_to_string(file).expect("there"), format!("copy {place}"));
        assert!(root.path().join(maildir).join("cur").is_dir());
    }
    assert_eq!(files(root.path()).len(), many.len(), "nothing is left in tmp");
}

#[test]
fn only_the_owner_may_read() {
    use std::os::unix::fs::PermissionsExt;
    let (root, store) = store();
    store.deliver(&maildirs(&["localhost/alice"]), write_number).expect("delivered");
    let mode = |path: &Path| fs::symlink_metadata(path).expect("there").permissions().mode() & 0o777;
    assert_eq!(mode(&files(root.path())[0]), 0o600);
    for directory in ["localhost", "localhost/alice", "localhost/alice/tmp", "localhost/alice/new"] {
        assert_eq!(mode(&root.path().join(directory)), 0o700, "{directory}");
    }
}

#[test] // SECURITY.md D-32: a failure in the third copy leaves none of the first two.
fn d32_a_full_disk_leaves_no_stray_file() {
    let (root, store) = store();
    let error = store
        .deliver(&maildirs(&["localhost/a", "localhost/b", "localhost/c"]), |place, file| {
            file.write_all(&vec![b'x'; 200_000])?;
            if place == 2 { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
        })
        .expect_err("no room");
    assert_eq!(error.io().kind(), io::ErrorKind::StorageFull);
    assert_eq!(files(root.path()), Vec::<PathBuf>::new());
}

#[test] // The second rename fails: the first is undone.
fn a_failing_rename_takes_back_those_before_it() {
    let (root, store) = store();
    let new = root.path().join("localhost/b/new");
    let result = store.deliver(&maildirs(&["localhost/a", "localhost/b", "localhost/c"]), |place, file| {
        if place == 2 {
            fs::remove_dir(&new)?;
            File::create(&new)?;
        }
        write_number(place, file)
    });
    assert!(result.is_err());
    assert_eq!(files(root.path()), [new]);
}

#[test] // Something else has taken the place of the first copy.
fn what_cannot_be_removed_is_named() {
    let (root, store) = store();
    let alice = root.path().join("localhost/a");
    let error = store
        .deliver(&maildirs(&["localhost/a", "localhost/b"]), |place, file| {
            if place == 1 {
                // A directory with the name of the copy cannot be removed as a file, whoever asks.
                let copy = files(&alice).pop().expect("the first copy");
                fs::remove_file(&copy)?;
                fs::create_dir(&copy)?;
                return Err(io::ErrorKind::StorageFull.into());
            }
            write_number(place, file)
        })
        .expect_err("no room");
    let tmp = fs::read_dir(alice.join("tmp")).expect("there").map(|entry| entry.expect("an entry").path());
    assert_eq!(error.left_over(), tmp.collect::<Vec<_>>());
    assert_eq!(error.left_over().len(), 1);
}

#[test] // A panic on the way is a failure like others.
fn a_panic_leaves_no_stray_file() {
    let (root, store) = store();
    let delivery = std::panic::AssertUnwindSafe(|| {
        store.deliver(&maildirs(&["localhost/a", "localhost/b"]), |place, file| {
            assert_eq!(place, 0, "the second panics");
            write_number(place, file)
        })
    });
    assert!(std::panic::catch_unwind(delivery).is_err());
    assert_eq!(files(root.path()), Vec::<PathBuf>::new());
}

#[test] // SECURITY.md D-13: a link in the place of any directory is refused, and nothing is written where it leads.
fn d13_links_to_directories_are_not_followed() {
    for place in ["localhost", "localhost/alice", "localhost/alice/tmp", "localhost/alice/new", "localhost/alice/cur"] {
        let (root, store) = store();
        let elsewhere = tempfile::tempdir().expect("a directory");
        let link = root.path().join(place);
        fs::create_dir_all(link.parent().expect("a parent")).expect("made");
        std::os::unix::fs::symlink(elsewhere.path(), &link).expect("linked");
        assert!(store.deliver(&maildirs(&["localhost/alice"]), write_number).is_err(), "{place}");
        assert_eq!(files(elsewhere.path()), Vec::<PathBuf>::new(), "{place}");
        assert_eq!(files(root.path()), [link], "{place}");
    }
}

#[test] // SECURITY.md D-13: the name of the file is taken by a link.
fn d13_a_link_in_tmp_is_not_written_through() {
    let (root, store) = store();
    let maildir = store.make_maildir(Path::new("localhost/alice")).expect("made");
    let elsewhere = root.path().join("elsewhere");
    fs::write(&elsewhere, "untouched").expect("written");
    std::os::unix::fs::symlink(&elsewhere, maildir.join("tmp/name")).expect("linked");
    let mut batch = Batch::default();
    assert!(batch.create(&maildir, "name".into()).is_err());
    drop(batch);
    assert_eq!(fs::read_to_string(&elsewhere).expect("there"), "untouched");
    assert!(maildir.join("tmp/name").is_symlink(), "what is not ours is not removed");
}

#[test] // SECURITY.md D-13: whatever a caller asks for.
fn d13_paths_out_of_the_root_are_refused() {
    let (root, store) = store();
    for path in ["../x", "localhost/../../x", "/tmp/x", "./../x"] {
        assert!(store.deliver(&maildirs(&[path]), write_number).is_err(), "{path}");
    }
    assert_eq!(fs::read_dir(root.path()).expect("a directory").count(), 0);
}

#[test] // A Maildir that is removed while the server runs is made again.
fn a_removed_maildir_comes_back() {
    let (root, store) = store();
    let alice = maildirs(&["localhost/alice"]);
    store.deliver(&alice, write_number).expect("delivered");
    fs::remove_dir_all(root.path().join("localhost")).expect("removed");
    store.deliver(&alice, write_number).expect("delivered");
    assert_eq!(files(root.path()).len(), 1);
}

#[test]
fn stale_files_are_removed_from_tmp_alone() {
    let (root, store) = store();
    for maildir in [".quarantine", "localhost/alice", "localhost/tmp", "localhost/alice/.Junk"] {
        let maildir = store.make_maildir(Path::new(maildir)).expect("made");
        for file in ["tmp/old", "new/kept", "cur/kept"] {
            File::create(maildir.join(file)).expect("made");
        }
    }
    let after = |hours: u64| SystemTime::now() + Duration::from_secs(hours * 3600);
    assert_eq!(store.remove_stale(after(35)), 0);
    assert_eq!(store.remove_stale(after(37)), 4);
    assert_eq!(files(root.path()).len(), 8);
}
