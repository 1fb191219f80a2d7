//! Packets over which decoders differ, found by `tests/fuzz`, each with the verdict that we keep to.

use bytes::BytesMut;
use holdfast_mqtt::{Codec, Version};

const CASES: &str = include_str!("frozen.tsv");

#[test]
fn what_others_judge_otherwise_is_judged_as_ever() {
    let mut count = 0;
    for line in CASES.lines().filter(|line| !line.starts_with('#')) {
        let fields: Vec<&str> = line.split('\t').collect();
        let [version, hex, verdict, kind] = fields[..] else { panic!("{line:?}") };
        let version = if version == "5" { Version::V5 } else { Version::V311 };
        let bytes: Vec<u8> = hex
            .as_bytes()
            .chunks(2)
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect();
        let mut codec = Codec::client(version, 1 << 16);
        let read = codec.decode(&mut BytesMut::from(&bytes[..]));
        match (verdict, &read) {
            ("refused", Err(_)) => {}
            ("taken", Ok(Some(packet))) => {
                // And it is the same packet when it is written again.
                let mut wire = BytesMut::new();
                codec.encode(packet, &mut wire).unwrap();
                assert_eq!(codec.decode(&mut wire).unwrap().as_ref(), Some(packet), "{kind}: {hex}");
            }
            _ => panic!("{kind}: {hex} is to be {verdict}: {read:?}"),
        }
        count += 1;
    }
    assert!(count > 20, "the cases are there");
}
