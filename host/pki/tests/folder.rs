//! The life of an authority and of the certificate it issues, over months in a moment.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests are free")]

use holdfast_pki::{
    Authority, DEVICE_LIFE, Facts, Folder, Kept, Life, Names, Reason, SERVER_LIFE, write_new,
};
use std::{
    fs,
    time::{Duration, SystemTime},
};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// 2026-11-21.
fn today() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_219_200)
}

fn names() -> Names {
    let mut names = Names::new("press-4").unwrap();
    for name in ["localhost", "127.0.0.1", "edge.example.com"] {
        names.add(name).unwrap();
    }
    names
}

fn folder() -> (tempfile::TempDir, Folder) {
    let dir = tempfile::tempdir().unwrap();
    let folder = Folder::new(dir.path().join("certificates"));
    assert!(folder.make_authority("press-4", today()).unwrap());
    (dir, folder)
}

#[track_caller]
fn issued(kept: Kept) -> (Facts, Reason) {
    match kept {
        Kept::Issued(facts, reason) => (facts, reason),
        Kept::AsItWas(facts) => panic!("was left as it was: {facts:?}"),
    }
}

#[test]
fn an_authority_is_made_once_for_ten_years_and_signs_for_thirty_days() {
    let (_dir, folder) = folder();
    let made = fs::read_to_string(folder.authority()).unwrap();
    assert!(!folder.make_authority("press-4", today() + DAY).unwrap(), "it is there already");
    assert_eq!(fs::read_to_string(folder.authority()).unwrap(), made);
    let authority = folder.load().unwrap();
    assert!(authority.facts().authority && authority.facts().subject.contains("Holdfast press-4"));
    assert_eq!(authority.facts().left(today()).as_secs() / DAY.as_secs(), 3650);

    let (server, reason) = issued(folder.keep_server(&names(), today()).unwrap());
    assert_eq!(reason, Reason::Missing);
    assert_eq!(server.names, ["127.0.0.1", "edge.example.com", "localhost", "press-4"]);
    assert!(server.subject.contains("press-4") && server.is_signed_by(authority.facts()));
    assert!(!server.authority);
    assert_eq!(server.left(today()), SERVER_LIFE);
}

#[test]
fn a_certificate_is_renewed_when_most_of_its_life_has_passed_and_not_before() {
    let (_dir, folder) = folder();
    let (first, _) = issued(folder.keep_server(&names(), today()).unwrap());
    assert!(matches!(folder.keep_server(&names(), today() + 20 * DAY).unwrap(), Kept::AsItWas(_)));
    let (second, reason) = issued(folder.keep_server(&names(), today() + 25 * DAY).unwrap());
    assert_eq!(reason, Reason::Due);
    assert!(second.sha256 != first.sha256 && second.left(today() + 25 * DAY) == SERVER_LIFE);
    // The machine was off for a year.
    let (_, reason) = issued(folder.keep_server(&names(), today() + 365 * DAY).unwrap());
    assert_eq!(reason, Reason::Expired);
    let asked = folder.renew_server(&names(), today() + 365 * DAY).unwrap();
    assert_eq!(asked.life(today() + 365 * DAY), Life::Good);
}

#[test]
fn a_certificate_for_other_names_or_from_another_authority_is_replaced() {
    let (_dir, one) = folder();
    one.keep_server(&names(), today()).unwrap();
    let mut more = names();
    more.add("192.0.2.7").unwrap();
    let (facts, reason) = issued(one.keep_server(&more, today()).unwrap());
    assert!(reason == Reason::Names && facts.names.contains(&"192.0.2.7".to_owned()));
    let (_other_dir, other) = folder();
    for (from, to) in [(other.authority(), one.authority()), (other.authority_key(), one.authority_key())] {
        fs::copy(from, to).unwrap();
    }
    assert_eq!(issued(one.keep_server(&more, today()).unwrap()).1, Reason::Authority);
    fs::write(one.server(), "half a file").unwrap();
    assert_eq!(issued(one.keep_server(&more, today()).unwrap()).1, Reason::Missing);
}

#[test]
fn a_clock_that_was_never_set_makes_nothing_that_is_soon_worthless() {
    let dir = tempfile::tempdir().unwrap();
    let folder = Folder::new(dir.path());
    let unset = SystemTime::UNIX_EPOCH + DAY;
    folder.make_authority("edge", unset).unwrap();
    folder.keep_server(&names(), unset).unwrap();
    assert!(matches!(folder.keep_server(&names(), unset).unwrap(), Kept::AsItWas(_)), "not again and again");
    assert!(folder.load().unwrap().facts().left(today()) > 8 * 365 * DAY);
    // The clock is set.
    assert_eq!(issued(folder.keep_server(&names(), today()).unwrap()).1, Reason::Expired);
    // And it was ahead once.
    issued(folder.keep_server(&names(), today() + 1000 * DAY).unwrap());
    assert_eq!(issued(folder.keep_server(&names(), today()).unwrap()).1, Reason::NotYet);
}

#[test]
fn a_certificate_never_outlives_its_authority_and_an_expired_one_signs_nothing() {
    let (_dir, folder) = folder();
    let end = folder.load().unwrap().facts().not_after;
    let (last, _) = issued(folder.keep_server(&names(), end - 10 * DAY).unwrap());
    assert_eq!(last.not_after, end);
    assert!(matches!(folder.keep_server(&names(), end - DAY).unwrap(), Kept::AsItWas(_)));
    let error = folder.keep_server(&names(), end + DAY).unwrap_err().to_string();
    assert!(error.contains("has expired; make a new one"), "{error}");
}

#[cfg(unix)]
#[test]
fn keys_are_for_their_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let (_dir, folder) = folder();
    folder.keep_server(&names(), today()).unwrap();
    let mode = |path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(folder.authority_key()), mode(folder.server())), (0o600, 0o600));
    assert_eq!(mode(folder.authority()), 0o644);
    let left: Vec<_> = fs::read_dir(folder.authority().parent().unwrap()).unwrap().collect();
    assert_eq!(left.len(), 3, "nothing else is left there: {left:?}");
}

#[test]
fn files_that_do_not_belong_together_are_named_with_the_way_out() {
    let (_one_dir, one) = folder();
    let (_two_dir, two) = folder();
    fs::copy(two.authority_key(), one.authority_key()).unwrap();
    let error = one.load().unwrap_err().to_string();
    assert!(error.contains("do not belong together") && error.contains("certificates"), "{error}");
    fs::remove_file(two.authority_key()).unwrap();
    let error = two.load().unwrap_err().to_string();
    assert!(error.contains("authority.key cannot be read"), "{error}");
    fs::write(two.authority(), "hello").unwrap();
    assert!(two.make_authority("press-4", today()).is_ok_and(|made| !made), "never overwritten");
}

#[test]
fn a_file_of_the_authority_that_cannot_be_read_is_named() {
    for name in ["authority.pem", "authority.key"] {
        let (_dir, folder) = folder();
        let file = folder.authority().with_file_name(name);
        fs::write(&file, "-----BEGIN NOTHING-----\n").unwrap();
        let error = folder.keep_server(&names(), today()).unwrap_err().to_string();
        assert!(error.starts_with(&file.display().to_string()), "{name}: {error}");
    }
}

#[test]
fn a_certificate_for_a_device_proves_its_name() {
    let (authority, _) = Authority::create("edge", today()).unwrap();
    let issued = authority.issue_to_device("Sensor_1:a", DEVICE_LIFE, today()).unwrap();
    let facts = Facts::read(&issued.certificate).unwrap();
    assert_eq!(facts.subject, "CN=Sensor_1:a", "as it stands: names of devices are not those of hosts");
    assert_eq!(facts.not_after, today() + DEVICE_LIFE);
    assert!(facts.is_signed_by(authority.facts()));
    assert!(!format!("{issued:?}").contains("PRIVATE"), "no key shows");
    let refused = authority.issue_to_device(&"n".repeat(65), DEVICE_LIFE, today()).unwrap_err().to_string();
    assert!(refused.contains("more than 64 characters") && refused.contains("--thumbprint"), "{refused}");
}

#[test]
fn a_certificate_and_its_key_are_written_both_or_not_at_all_and_over_nothing() {
    let (dir, folder) = folder();
    let issued = folder.load().unwrap().issue_to_device("pump", DEVICE_LIFE, today()).unwrap();
    let (certificate, key) = (dir.path().join("pump.pem"), dir.path().join("pump.key"));
    for there in [&certificate, &key] {
        fs::write(there, "mine").unwrap();
        let error = write_new(&issued, &certificate, &key).unwrap_err().to_string();
        assert!(error.contains("is there already and was left as it is"), "{error}");
        assert_eq!(fs::read_to_string(there).unwrap(), "mine");
        fs::remove_file(there).unwrap();
        assert!(!certificate.exists() && !key.exists());
    }
    write_new(&issued, &certificate, &key).unwrap();
    assert!(fs::read_to_string(&certificate).unwrap().contains("BEGIN CERTIFICATE"));
    assert!(fs::read_to_string(&key).unwrap().contains("PRIVATE KEY"));
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    }
    let nowhere = dir.path().join("none/pump.key");
    let error = write_new(&issued, &dir.path().join("other.pem"), &nowhere).unwrap_err().to_string();
    assert!(error.contains("none/pump.key cannot be written"), "{error}");
}
